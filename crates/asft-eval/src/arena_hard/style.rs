//! The style of an answer: its length and how much it is laid out, as v0.1 counts.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::Answers;
use crate::EvalError;

/// Counts of an answer, written as `conv_metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StyleCounts {
    /// Length in tokens of cl100k.
    pub token_len: u64,
    /// Headers by level.
    pub header_count: HeaderCount,
    /// Items of lists.
    pub list_count: ListCount,
    /// Bold texts.
    pub bold_count: BoldCount,
}

/// Headers by level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderCount {
    /// Of level 1.
    pub h1: u64,
    /// Of level 2.
    pub h2: u64,
    /// Of level 3.
    pub h3: u64,
    /// Of level 4.
    pub h4: u64,
    /// Of level 5.
    pub h5: u64,
    /// Of level 6.
    pub h6: u64,
}

/// Items of lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListCount {
    /// Numbered.
    pub ordered: u64,
    /// With a mark.
    pub unordered: u64,
}

/// Bold texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoldCount {
    /// Between asterisks.
    #[serde(rename = "**")]
    pub asterisks: u64,
    /// Between underscores.
    #[serde(rename = "__")]
    pub underscores: u64,
}

impl StyleCounts {
    /// Counts a text of `token_len` tokens; what stands in code blocks is passed over wherever it occurs.
    #[must_use]
    pub fn of(text: &str, token_len: u64) -> Self {
        static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("```([^`]*)```").expect("valid"));
        // Python's white space is Rust's and four separators more.
        static LINES: LazyLock<[Regex; 8]> = LazyLock::new(|| {
            let space = r"[\s\x1c-\x1f]";
            let header = |level| format!("(?m)^#{{{level}}}{space}");
            [
                header(1),
                header(2),
                header(3),
                header(4),
                header(5),
                header(6),
                format!(r"(?m)^{space}*\d+\.{space}"),
                format!("(?m)^{space}*[-*+]{space}"),
            ]
            .map(|pattern| Regex::new(&pattern).expect("valid"))
        });
        static BOLD: LazyLock<[Regex; 2]> = LazyLock::new(|| {
            [r"\*\*[^*\n]+\*\*", r"__[^_\n]+__"].map(|pattern| Regex::new(pattern).expect("valid"))
        });
        let mut left = text.to_owned();
        for code in CODE.captures_iter(text) {
            left = left.replace(&code[1], "");
        }
        let count = |pattern: &Regex| pattern.find_iter(&left).count() as u64;
        let [h1, h2, h3, h4, h5, h6, ordered, unordered] = LINES.each_ref().map(count);
        let [asterisks, underscores] = BOLD.each_ref().map(count);
        Self {
            token_len,
            header_count: HeaderCount { h1, h2, h3, h4, h5, h6 },
            list_count: ListCount { ordered, unordered },
            bold_count: BoldCount { asterisks, underscores },
        }
    }

    /// Those an answer has, or else a count of its text.
    ///
    /// # Errors
    /// If there is no such answer, or its length in tokens is not known.
    pub(super) fn of_answer(answers: &Answers, question: &str) -> Result<Self, EvalError> {
        let question = question.to_owned();
        let turn = answers.turn(&question, 0)?;
        let wrong =
            |what: &str| EvalError::Input(format!("{}: question {question}: {what}", answers.path.display()));
        match answers.rows[&question].other.get("conv_metadata") {
            Some(counts) => serde_path_to_error::deserialize(counts)
                .map_err(|error| wrong(&format!("conv_metadata.{}: {}", error.path(), error.inner()))),
            None => {
                let token_len = turn.token_len.ok_or_else(|| {
                    wrong("has neither conv_metadata nor token_len\nhint: style control needs lengths in tokens")
                })?;
                Ok(Self::of(&turn.content, token_len))
            }
        }
    }

    /// Tokens, headers, lists and bold texts.
    pub(super) fn features(&self) -> [f64; 4] {
        let HeaderCount { h1, h2, h3, h4, h5, h6 } = self.header_count;
        let lists = self.list_count.ordered + self.list_count.unordered;
        let bold = self.bold_count.asterisks + self.bold_count.underscores;
        [self.token_len, h1 + h2 + h3 + h4 + h5 + h6, lists, bold].map(|count| count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_outside_of_code() {
        let text = "# One\n## Two\n#Three\n\n1. a\n  2. b\n- c\n* **d** and __e__\n**f\n**\n\
                    ```sh\n# no\n- no\n```\n- end";
        let counts = StyleCounts::of(text, 9);
        assert_eq!(
            serde_json::to_string(&counts).unwrap(),
            "{\"token_len\":9,\"header_count\":{\"h1\":1,\"h2\":1,\"h3\":0,\"h4\":0,\"h5\":0,\"h6\":0},\
             \"list_count\":{\"ordered\":2,\"unordered\":3},\"bold_count\":{\"**\":1,\"__\":1}}"
        );
        assert_eq!(counts.features(), [9.0, 2.0, 5.0, 2.0]);
    }

    #[test]
    fn code_is_deleted_wherever_it_occurs() {
        assert_eq!(StyleCounts::of("- x\n```- x\n```", 0).list_count.unordered, 0);
        assert_eq!(StyleCounts::of("``````\n- x", 0).list_count.unordered, 1);
    }
}
