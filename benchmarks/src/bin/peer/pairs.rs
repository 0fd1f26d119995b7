//! Files of pairs that both programs read alike: conversations as JSON Lines.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asft_data::{
    Dataset, Message, PreferenceRow, Tokenizer,
    dataset::LoadOptions,
    read::Source,
    schema::{Converted, Format, SchemaRows},
    template::{RenderOptions, TemplateChoice},
    truncation::Truncation,
};
use serde_json::{Value, json};

use crate::arguments::Arguments;

/// How asft reads the data; prompts and answers that are too long are left to `truncation`.
pub fn options(arguments: &Arguments, tokenizer: &Tokenizer, truncation: Truncation) -> Result<LoadOptions> {
    Ok(LoadOptions {
        sources: vec![Source::File(arguments.data.clone())],
        format: Format::Auto,
        max_length: arguments.max_length,
        truncation,
        min_response_tokens: 0,
        template: TemplateChoice::Model.resolve(tokenizer, RenderOptions::default())?,
    })
}

/// The tokenizer of the model.
pub fn tokenizer(arguments: &Arguments) -> Result<Tokenizer> {
    Ok(Tokenizer::from_model(&arguments.model)?)
}

/// Writes the first pairs that asft would train on; gives the file and their number.
pub fn write_first(arguments: &Arguments, tokenizer: &Tokenizer) -> Result<(PathBuf, usize)> {
    let dataset = Dataset::load(&options(arguments, tokenizer, Truncation::Drop)?, tokenizer)?;
    let kept: HashSet<_> = dataset.pairs.iter().take(arguments.pairs).map(|pair| pair.origin.row).collect();
    let rows: Vec<_> =
        rows(&arguments.data)?.into_iter().filter(|row| kept.contains(&row.origin.row)).collect();
    let file = arguments.output.join("pairs.jsonl");
    write(&file, rows.iter().map(conversations).collect::<Result<_>>()?)?;
    Ok((file, rows.len()))
}

/// Writes every row of the data.
pub fn write_all(arguments: &Arguments) -> Result<PathBuf> {
    let file = arguments.output.join("pairs.jsonl");
    write(&file, rows(&arguments.data)?.iter().map(conversations).collect::<Result<_>>()?)?;
    Ok(file)
}

/// The rows of a file that asft can use.
pub fn rows(data: &Path) -> Result<Vec<PreferenceRow>> {
    let mut rows = vec![];
    for row in SchemaRows::open(&Source::File(data.to_owned()), Format::Auto)? {
        if let (_, Converted::Row(row)) = row? {
            rows.push(row);
        }
    }
    Ok(rows)
}

fn conversations(row: &PreferenceRow) -> Result<Value> {
    let messages = |messages: &[Message]| -> Vec<Value> {
        messages.iter().map(|m| json!({"role": m.role.as_str(), "content": m.content.as_str()})).collect()
    };
    let rejected = row.rejected.as_deref();
    let rejected = rejected.with_context(|| format!("{}: there is no rejected answer", row.origin))?;
    Ok(
        json!({"prompt": messages(&row.prompt), "chosen": messages(&row.chosen), "rejected": messages(rejected)}),
    )
}

/// Pairs of a given length, made of a data set's words.
pub struct Words {
    tokenizer: Tokenizer,
    ids: Vec<u32>,
}

impl Words {
    /// Reads the answers of `data`.
    pub fn read(data: &Path, tokenizer: Tokenizer) -> Result<Self> {
        let mut ids = vec![];
        for row in rows(data)? {
            for message in row.chosen.iter().chain(row.rejected.iter().flatten()) {
                ids.extend(tokenizer.encode(&format!("{}\n", message.content), false)?);
            }
        }
        ensure!(ids.len() >= 64, "{}: {} tokens are too few to make pairs of", data.display(), ids.len());
        Ok(Self { tokenizer, ids })
    }

    /// Writes `pairs` pairs of about `tokens` tokens each, a fifth of them prompt, both answers of one length.
    pub fn write(&self, file: &Path, pairs: usize, tokens: usize) -> Result<()> {
        let mut next = self.ids.iter().copied().cycle();
        let mut text = |tokens: usize| -> Result<String> {
            let ids: Vec<u32> = next.by_ref().take(tokens).collect();
            // White space at an end could merge with that of the template.
            let text = self.tokenizer.decode(&ids, true)?;
            Ok(text.replace(char::REPLACEMENT_CHARACTER, "").trim().to_owned())
        };
        let mut lines = vec![];
        for _ in 0..pairs {
            let [prompt, chosen, rejected] = [tokens / 5, tokens * 2 / 5, tokens * 2 / 5].map(&mut text);
            let message = |role: &str, text: String| json!([{"role": role, "content": text}]);
            lines.push(json!({
                "prompt": message("user", prompt?),
                "chosen": message("assistant", chosen?),
                "rejected": message("assistant", rejected?),
            }));
        }
        write(file, lines)
    }
}

fn write(file: &Path, lines: Vec<Value>) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(file, text).with_context(|| format!("{}: cannot be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_pairs_have_the_length_asked_for() {
        let quickstart = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../quickstart"));
        let tokenizer = Tokenizer::from_model(quickstart).unwrap();
        let words = Words::read(&quickstart.join("pairs.jsonl"), tokenizer.clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made.jsonl");
        words.write(&file, 3, 500).unwrap();
        let rows = rows(&file).unwrap();
        assert_eq!(rows.len(), 3);
        for row in rows {
            let messages = row.prompt.iter().chain(&row.chosen).chain(row.rejected.iter().flatten());
            let tokens: usize = messages.map(|m| tokenizer.encode(&m.content, false).unwrap().len()).sum();
            assert!((480..=505).contains(&tokens), "{tokens} tokens");
            assert_ne!(Some(row.chosen), row.rejected);
        }
    }
}
