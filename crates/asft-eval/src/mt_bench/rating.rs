//! The rating in a judge's reply.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Number;

use crate::judge::{Reply, Status};

/// The first number in double brackets, else the first in single ones: an integer where it has no point.
#[must_use]
pub fn rating(text: &str) -> Option<Number> {
    static DOUBLE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\[\[([0-9]+\.?[0-9]*)\]\]").expect("valid"));
    static SINGLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[([0-9]+\.?[0-9]*)\]").expect("valid"));
    let found = DOUBLE.captures(text).or_else(|| SINGLE.captures(text))?;
    let digits = &found[1];
    match digits.parse::<u64>() {
        Ok(whole) => Some(whole.into()),
        Err(_) => Number::from_f64(digits.parse().ok()?),
    }
}

/// Whether a score counts.
#[must_use]
pub(super) fn is_on_scale(score: f64) -> bool {
    (1.0..=10.0).contains(&score)
}

/// What became of a call that was replied to.
pub(super) fn status(reply: &Reply) -> Status {
    match rating(reply.content.as_deref().unwrap_or_default()) {
        Some(score) if is_on_scale(score.as_f64().unwrap_or(f64::NAN)) => Status::Ok,
        Some(_) => Status::OutOfRange,
        None => Status::without_verdict(reply, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_double_brackets_then_single_ones() {
        for (text, score) in [
            ("Rating: [[7]]", Some("7")),
            ("[3] then [[8]] then [[9]]", Some("8")),
            ("[[7.50]]", Some("7.5")),
            ("[[8.]]", Some("8.0")),
            ("[[08]]", Some("8")),
            ("see [2], [4]", Some("2")),
            ("[[ten]] [[-1]] 7/10", None),
            ("[[7]", Some("7")),
            ("", None),
        ] {
            assert_eq!(rating(text).map(|score| score.to_string()).as_deref(), score, "{text}");
        }
    }

    #[test]
    fn statuses() {
        let reply = |content: Option<&str>, finish: &str| Reply {
            content: content.map(str::to_owned),
            finish_reason: Some(finish.to_owned()),
            ..Reply::default()
        };
        assert_eq!(status(&reply(Some("[[7]]"), "length")), Status::Ok);
        assert_eq!(status(&reply(Some("[[0]]"), "stop")), Status::OutOfRange);
        assert_eq!(status(&reply(Some("[[85]]"), "stop")), Status::OutOfRange);
        assert_eq!(status(&reply(Some("good"), "stop")), Status::Unparsable);
        assert_eq!(status(&reply(Some("good"), "length")), Status::Truncated);
        assert_eq!(status(&reply(None, "stop")), Status::Empty);
        assert_eq!(status(&reply(None, "content_filter")), Status::Refused);
    }
}
