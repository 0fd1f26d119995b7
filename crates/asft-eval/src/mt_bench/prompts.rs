//! The prompts of MT-Bench's judge: the user's file byte for byte, or our own wording, which is not the official
//! one.

use std::{collections::HashMap, path::Path};

use serde::Deserialize;

use super::{judgment::AskedWith, own_prompts};
use crate::{
    EvalError,
    judge::Message,
    judged::{Meta, template_sha256},
    schema::Kind,
    template::Template,
};

/// The label of every result that was had with other prompts.
pub const NOT_OFFICIAL: &str = "not the official MT-Bench prompts";

/// First digits of the hash of system prompt, NUL and template of the official prompts.
const OFFICIAL: [(&str, &str); 8] = [
    ("single-v1", "7d276fe1d4b3f18f"),
    ("single-math-v1", "226191a3df0fe7a9"),
    ("single-v1-multi-turn", "a91a5b4266b4e377"),
    ("single-math-v1-multi-turn", "572e584361120697"),
    ("pair-v2", "b40285ee2bd28eb7"),
    ("pair-v2-multi-turn", "b68c6e33f67f870b"),
    ("pair-math-v1", "bf7685d4fdd94736"),
    ("pair-math-v1-multi-turn", "ebe9b04d041444e8"),
];

const FIELDS: [&str; 14] = [
    "question",
    "answer",
    "question_1",
    "answer_1",
    "question_2",
    "answer_2",
    "ref_answer_1",
    "ref_answer_2",
    "answer_a",
    "answer_b",
    "answer_a_1",
    "answer_a_2",
    "answer_b_1",
    "answer_b_2",
];

/// What the judge is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A rating of one answer.
    Single,
    /// The better of two answers.
    Pairwise,
}

impl Mode {
    pub(super) fn output_format(self) -> &'static str {
        match self {
            Self::Single => "[[rating]]",
            Self::Pairwise => "[[A]]",
        }
    }

    pub(super) fn prompt_name(self, with_reference: bool, turn: u8) -> String {
        let kind = match (self, with_reference) {
            (Self::Single, false) => "single-v1",
            (Self::Single, true) => "single-math-v1",
            (Self::Pairwise, false) => "pair-v2",
            (Self::Pairwise, true) => "pair-math-v1",
        };
        format!("{kind}{}", if turn == 1 { "" } else { "-multi-turn" })
    }
}

/// A prompt of the judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its name, which judgments carry.
    pub name: String,
    /// The system message, as it stands in the file.
    pub system: String,
    /// Hash of system message, NUL and template.
    pub template_sha256: String,
    template: String,
    output_format: String,
}

#[derive(Deserialize)]
struct PromptRow {
    name: String,
    system_prompt: String,
    prompt_template: String,
    output_format: String,
}

impl Prompt {
    pub(super) fn new(name: &str, system: &str, template: &str, output_format: &str) -> Self {
        Self {
            name: name.to_owned(),
            system: system.to_owned(),
            template_sha256: template_sha256(system, template),
            template: template.to_owned(),
            output_format: output_format.to_owned(),
        }
    }

    /// Whether system message and template are the official ones of its name.
    #[must_use]
    pub fn is_official(&self) -> bool {
        may_be_official(&self.name, Some(&self.template_sha256))
    }

    /// The messages with every field filled.
    pub(super) fn messages(&self, values: &[(&str, &str)]) -> Result<Vec<Message>, EvalError> {
        let filled = |template: Template| {
            let unseen = |(name, _): &&(&str, &str)| name.starts_with("answer") && !template.has(name);
            match values.iter().find(unseen) {
                Some((name, _)) => {
                    Err(format!("has no {{{name}}}, so that the judge would not see that answer"))
                }
                None => template.fill(values),
            }
        };
        let user = Template::parse(&self.template, &FIELDS)
            .and_then(filled)
            .map_err(|what| EvalError::Input(format!("prompt {}: prompt_template: {what}", self.name)))?;
        Ok(vec![Message::new("system", self.system.as_str()), Message::new("user", user)])
    }
}

/// Prompts by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompts {
    prompts: HashMap<String, Prompt>,
    /// What our own names begin with; empty for the user's.
    prefix: &'static str,
    origin: String,
}

impl Prompts {
    /// Reads the user's file; of several prompts of a name the last counts.
    ///
    /// # Errors
    /// If it cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let rows = Kind::JudgePrompt.rows::<PromptRow>(path)?;
        let prompts = rows.into_iter().map(|(_, row)| {
            let prompt = Prompt::new(&row.name, &row.system_prompt, &row.prompt_template, &row.output_format);
            (row.name, prompt)
        });
        Ok(Self { prompts: prompts.collect(), prefix: "", origin: path.display().to_string() })
    }

    /// Our own wording.
    #[must_use]
    pub fn own() -> Self {
        Self {
            prompts: own_prompts::all().map(|prompt| (prompt.name.clone(), prompt)).into(),
            prefix: own_prompts::PREFIX,
            origin: "our own prompts".to_owned(),
        }
    }

    /// Whether every prompt of a mode is the official one.
    #[must_use]
    pub fn is_official(&self, mode: Mode) -> bool {
        [(false, 1), (false, 2), (true, 1), (true, 2)].into_iter().all(|(with_reference, turn)| {
            self.prompts.get(&mode.prompt_name(with_reference, turn)).is_some_and(Prompt::is_official)
        })
    }

    /// [`NOT_OFFICIAL`] where it applies.
    #[must_use]
    pub fn label(&self, mode: Mode) -> Option<&'static str> {
        (!self.is_official(mode)).then_some(NOT_OFFICIAL)
    }

    /// The prompt of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(&self, name: &str) -> Result<&Prompt, EvalError> {
        self.prompts.get(name).ok_or_else(|| {
            EvalError::Input(format!(
                "{}: has no prompt {name}\nhint: give the judge_prompts.jsonl that was judged with",
                self.origin
            ))
        })
    }

    /// The prompt for a turn, counted from 1.
    pub(super) fn get(&self, mode: Mode, with_reference: bool, turn: u8) -> Result<&Prompt, EvalError> {
        let prompt = self.named(&format!("{}{}", self.prefix, mode.prompt_name(with_reference, turn)))?;
        if prompt.output_format != mode.output_format() {
            return Err(EvalError::Input(format!(
                "{}: prompt {}: output_format is {}, where {} is read",
                self.origin,
                prompt.name,
                prompt.output_format,
                mode.output_format()
            )));
        }
        Ok(prompt)
    }
}

/// Whether judgments under this name of a prompt can have been had with the official one; where they have no hash, only
/// the name tells.
pub(super) fn may_be_official(name: &str, template_sha256: Option<&str>) -> bool {
    OFFICIAL.iter().any(|(official, hash)| {
        *official == name && template_sha256.is_none_or(|template| template.starts_with(hash))
    })
}

/// What tells the request of a judgment from others: files of other programs have no hash, which is no difference to the
/// official one.
pub(super) fn asked_with<'a>(name: &'a str, meta: Option<&'a Meta>, user_prompt: &'a str) -> AskedWith<'a> {
    let template = meta.and_then(|meta| meta.template_sha256.as_deref());
    (name, template.filter(|template| !may_be_official(name, Some(template))), user_prompt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Mode, bool, u8); 8] = [
        (Mode::Single, false, 1),
        (Mode::Single, true, 1),
        (Mode::Single, false, 2),
        (Mode::Single, true, 2),
        (Mode::Pairwise, false, 1),
        (Mode::Pairwise, true, 1),
        (Mode::Pairwise, false, 2),
        (Mode::Pairwise, true, 2),
    ];

    #[test]
    fn our_own_prompts_are_whole_and_never_official() {
        let prompts = Prompts::own();
        for (mode, with_reference, turn) in ALL {
            let prompt = prompts.get(mode, with_reference, turn).unwrap();
            assert!(!prompt.is_official() && !may_be_official(&prompt.name, None));
            let own = FIELDS.into_iter().filter(|field| prompt.template.contains(&format!("{{{field}}}")));
            let fields: Vec<_> = own.map(|field| (field, "<text>")).collect();
            let user = &prompt.messages(&fields).unwrap()[1].content;
            let answers = match mode {
                Mode::Single => 1,
                Mode::Pairwise => 2,
            };
            let questions = if turn == 2 { if mode == Mode::Single { 2 } else { 4 } } else { 1 };
            let references = if with_reference { usize::from(turn) } else { 0 };
            let expected = questions + answers * usize::from(turn) + references;
            assert_eq!(user.matches("<text>").count(), expected, "{}", prompt.name);
            assert!(prompt.system.contains(mode.output_format()), "{}", prompt.name);
        }
        assert_eq!(prompts.label(Mode::Single), Some(NOT_OFFICIAL));
    }

    #[test]
    fn an_answer_that_the_judge_would_not_see_is_refused() {
        let prompt = Prompt::new("mine", "", "{question}: {answer_a}", "[[A]]");
        let values = [("question", "q"), ("answer_a", "a")];
        assert_eq!(prompt.messages(&values).unwrap()[1].content, "q: a");
        let error = prompt.messages(&[values[0], values[1], ("answer_b", "b")]).unwrap_err().to_string();
        assert!(error.contains("prompt mine: prompt_template: has no {answer_b}"), "{error}");
    }

    #[test]
    fn the_users_prompts_must_be_there_and_of_the_mode() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let row = |name: &str, format: &str, template: &str| {
            format!(
                "{{\"name\":\"{name}\",\"system_prompt\":\"\",\"prompt_template\":\"{template}\",\
                 \"output_format\":\"{format}\"}}\n"
            )
        };
        let text = row("single-v1", "[[A]]", "{answer}") + &row("pair-v2", "[[A]]", "{answers}");
        std::fs::write(file.path(), text).unwrap();
        let prompts = Prompts::read(file.path()).unwrap();
        let told = |error: EvalError| error.to_string();
        assert!(told(prompts.get(Mode::Single, false, 1).unwrap_err()).contains("output_format is [[A]]"));
        assert!(told(prompts.get(Mode::Single, true, 1).unwrap_err()).contains("no prompt single-math-v1"));
        let pair = prompts.get(Mode::Pairwise, false, 1).unwrap();
        assert!(
            told(pair.messages(&[]).unwrap_err()).contains("prompt pair-v2: prompt_template: there is no")
        );
        assert_eq!(prompts.label(Mode::Pairwise), Some(NOT_OFFICIAL));
    }
}
