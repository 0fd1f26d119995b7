//! What Arena-Hard's judge is told: the user's `judge_config.yaml` byte for byte, or our own wording, which is not
//! the official one.

use std::path::Path;

use serde_json::{Map, Value};

use super::verdict::VerdictPattern;
use crate::{EvalError, judge::Message, judged::template_sha256, template::Template, yaml};

/// The label of every result that was had with other prompts.
pub const NOT_OFFICIAL: &str = "not the official Arena-Hard prompts";

/// First digits of the hash of system prompt, NUL and template of v0.1.
const OFFICIAL: &str = "d24bdd2c278913e2";

/// Asks again for a verdict; our own wording, for `judge_config.yaml` has none.
pub const RETRY_MESSAGE: &str = "No verdict label was found in what you wrote. End your judgment now with exactly \
    one of [[A>>B]], [[A>B]], [[A=B]], [[B>A]], [[B>>A]].";

/// How our own prompts begin, so that judgments tell them from the official ones.
pub(super) const OWN_BEGINNING: &str = "=== WHAT THE USER ASKED ===\n";

const OWN_SYSTEM: &str = "Two assistants, A and B, answered one and the same user. You decide who served that user \
    better, and by how much.\n\nFirst work out what a good answer must contain. Then go through each answer: what \
    is wrong in it, what is missing, what nobody asked for. A short answer that does what was wanted is better than \
    a long one that says more than that. Where the request is unclear, asking back can be right. The order in which \
    the two are shown means nothing.\n\nAt the end write one label, in double brackets, on a line of its own: \
    [[A>>B]] if A is much better, [[A>B]] if A is a little better, [[A=B]] if they are about equal, [[B>A]] if B is \
    a little better, [[B>>A]] if B is much better.";

const OWN_TEMPLATE: &str = "=== WHAT THE USER ASKED ===\n{question_1}\n=== END OF IT ===\n\n\
    === ANSWER OF A ===\n{answer_1}\n=== END OF ANSWER OF A ===\n\n\
    === ANSWER OF B ===\n{answer_2}\n=== END OF ANSWER OF B ===";

/// Prompts, how a verdict is found, and how often it is asked for.
#[derive(Clone, Debug)]
pub struct JudgeConfig {
    /// The system message.
    pub system: String,
    /// Hash of system message, NUL and template.
    pub template_sha256: String,
    template: Template,
    /// Finds verdicts.
    pub pattern: VerdictPattern,
    /// How often a game without a verdict is asked about.
    pub attempts: usize,
}

impl JudgeConfig {
    /// Reads the user's configuration.
    ///
    /// # Errors
    /// If it cannot be read or a setting is missing or not what it should be; the message names it.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let settings = yaml::read(path)?;
        Self::of(&settings).map_err(|what| EvalError::Input(format!("{}: {what}", path.display())))
    }

    fn of(settings: &Map<String, Value>) -> Result<Self, String> {
        let text = |key: &str| {
            settings.get(key).and_then(Value::as_str).ok_or_else(|| format!("{key}: is missing, or no text"))
        };
        let template = match settings.get("prompt_template") {
            Some(Value::Array(templates)) => templates.first().and_then(Value::as_str),
            single => single.and_then(Value::as_str),
        };
        let template = template.ok_or("prompt_template: is missing, or no list of texts")?;
        let pattern = match settings.contains_key("regex_pattern") {
            true => VerdictPattern::new(text("regex_pattern")?)
                .map_err(|what| format!("regex_pattern: {what}"))?,
            false => VerdictPattern::default(),
        };
        let attempts = match settings.get("number_of_judgment_attempts") {
            None => 2,
            Some(number) => number
                .as_u64()
                .filter(|number| *number > 0)
                .ok_or("number_of_judgment_attempts: is no whole number from 1 on")?
                as usize,
        };
        Self::new(text("system_prompt")?, template, pattern, attempts)
    }

    fn new(system: &str, template: &str, pattern: VerdictPattern, attempts: usize) -> Result<Self, String> {
        let parsed = Template::parse(template, &["question_1", "answer_1", "answer_2"])
            .map_err(|what| format!("prompt_template: {what}"))?;
        if let Some(name) = ["answer_1", "answer_2"].into_iter().find(|name| !parsed.has(name)) {
            return Err(format!(
                "prompt_template: has no {{{name}}}, so that the judge would not see that answer"
            ));
        }
        Ok(Self {
            system: system.to_owned(),
            template_sha256: template_sha256(system, template),
            template: parsed,
            pattern,
            attempts,
        })
    }

    /// Our own wording.
    ///
    /// # Panics
    /// Never: the template is a constant.
    #[must_use]
    pub fn own() -> Self {
        Self::new(OWN_SYSTEM, OWN_TEMPLATE, VerdictPattern::default(), 2).expect("a template")
    }

    /// Whether system message and template are those of v0.1.
    #[must_use]
    pub fn is_official(&self) -> bool {
        is_official(&self.template_sha256)
    }

    /// [`NOT_OFFICIAL`] where it applies.
    #[must_use]
    pub fn label(&self) -> Option<&'static str> {
        (!self.is_official()).then_some(NOT_OFFICIAL)
    }

    /// What a game begins with.
    pub(super) fn messages(&self, question: &str, a: &str, b: &str) -> Vec<Message> {
        let values = [("question_1", question), ("answer_1", a), ("answer_2", b)];
        let user = self.template.fill(&values).expect("a value for every field");
        vec![Message::new("system", self.system.as_str()), Message::new("user", user)]
    }
}

/// Whether the prompt of this hash is that of v0.1.
pub(super) fn is_official(template_sha256: &str) -> bool {
    template_sha256.starts_with(OFFICIAL)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(settings: Value) -> Result<JudgeConfig, String> {
        JudgeConfig::of(settings.as_object().unwrap())
    }

    #[test]
    fn settings_are_read_with_their_defaults() {
        let read =
            config(json!({"system_prompt": "s", "prompt_template": ["{answer_2}{answer_1}", "x"]})).unwrap();
        assert_eq!((read.attempts, read.is_official()), (2, false));
        assert_eq!(read.messages("q", "{answer_2}", "b")[1].content, "b{answer_2}");
    }

    #[test]
    fn wrong_settings_are_named() {
        for (settings, message) in [
            (json!({"prompt_template": ["x"]}), "system_prompt: is missing"),
            (json!({"system_prompt": "s"}), "prompt_template: is missing"),
            (json!({"system_prompt": "s", "prompt_template": "{QUESTION}"}), "no field {QUESTION}"),
            (json!({"system_prompt": "s", "prompt_template": "{answer_1}"}), "has no {answer_2}"),
            (json!({"system_prompt": "s", "prompt_template": "x", "regex_pattern": "("}), "regex_pattern: "),
            (
                json!({"system_prompt": "s", "prompt_template": "x", "number_of_judgment_attempts": 0}),
                "number_of_judgment_attempts",
            ),
        ] {
            let error = config(settings.clone()).unwrap_err();
            assert!(error.contains(message), "{settings}: {error}");
        }
    }

    #[test]
    fn our_own_prompts_are_told_by_their_beginning() {
        let own = JudgeConfig::own();
        assert_eq!(own.label(), Some(NOT_OFFICIAL));
        assert!(own.messages("q", "a", "b")[1].content.starts_with(OWN_BEGINNING));
    }
}
