//! Faults on demand: rows `{"nth": k | "contains": text, "then": [step…]}`.

use std::{collections::HashMap, path::Path, sync::Mutex, time::Duration};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{EvalError, jsonl, judge::Message};

/// Rules that make a stub misbehave.
///
/// A rule looks for a request: the one of this number, from 1, or any whose messages contain a text. The prompt of a
/// request that it finds (its first user message) takes the rule's steps in turn, one a request: so a request that is
/// sent again meets the next step. After the last one the prompt is answered as usual. `contains` gives each prompt
/// steps of its own. Of several rules with steps left the first counts.
#[derive(Debug, Default)]
pub struct Script {
    rules: Vec<Rule>,
    /// How many steps of a rule a prompt has taken.
    taken: Mutex<HashMap<(usize, String), usize>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    nth: Option<u64>,
    #[serde(default)]
    contains: Option<String>,
    then: Vec<Step>,
}

/// What is done instead of the usual, or to it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// HTTP status.
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default, deserialize_with = "headers")]
    pub headers: Vec<(String, String)>,
    /// With `status`: a text as it is, or anything else as JSON.
    #[serde(default)]
    pub body: Option<Value>,
    /// A wait before the answer.
    #[serde(default, rename = "delay_ms", deserialize_with = "milliseconds")]
    pub delay: Duration,
    /// The connection is closed after so many bytes of the body.
    #[serde(default)]
    pub close_after_bytes: Option<usize>,
    /// A body that is no JSON.
    #[serde(default)]
    pub garbage: bool,
    /// A reply's text, or null.
    #[serde(default, deserialize_with = "present")]
    pub content: Option<Option<String>>,
    /// With `content` or `refusal`; `stop` if absent.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// A reply that refuses.
    #[serde(default)]
    pub refusal: Option<String>,
}

fn milliseconds<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    u64::deserialize(value).map(Duration::from_millis)
}

/// Tells a field that is null from one that is absent.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

fn headers<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<(String, String)>, D::Error> {
    let headers = serde_json::Map::deserialize(value)?;
    headers
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ => return Err(serde::de::Error::custom(format!("{name} is neither text nor number"))),
            };
            let one_line = |text: &str| !text.contains(['\r', '\n']);
            match one_line(&name) && one_line(&value) {
                true => Ok((name, value)),
                false => Err(serde::de::Error::custom(format!("{name:?} has more than one line"))),
            }
        })
        .collect()
}

impl Script {
    /// Reads the rules of a file.
    ///
    /// # Errors
    /// If it cannot be read, or a row is no rule.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let mut rules = vec![];
        for (row, rule) in jsonl::read_as::<Rule>(path)? {
            let what = match &rule {
                Rule { nth: None, contains: None, .. } | Rule { nth: Some(_), contains: Some(_), .. } => {
                    Some("has to have either nth or contains".to_owned())
                }
                Rule { nth: Some(0), .. } => Some("nth: requests are counted from 1".to_owned()),
                Rule { then, .. } if then.is_empty() => Some("then: has no steps".to_owned()),
                Rule { then, .. } => then
                    .iter()
                    .enumerate()
                    .find_map(|(index, step)| Some(format!("then[{index}]: {}", step.contradiction()?))),
            };
            if let Some(what) = what {
                return Err(EvalError::row(path, row, what));
            }
            rules.push(rule);
        }
        Ok(Self { rules, taken: Mutex::default() })
    }

    /// The step for a request, and its name.
    pub(super) fn step(&self, number: u64, messages: &[Message], prompt: &str) -> Option<(String, Step)> {
        let mut taken = self.taken.lock().expect("no panic while it is held");
        for (index, rule) in self.rules.iter().enumerate() {
            let place = (index, prompt.to_owned());
            let found = match &rule.contains {
                Some(text) => messages.iter().any(|message| message.content.contains(text.as_str())),
                None => rule.nth == Some(number) || taken.contains_key(&place),
            };
            if !found {
                continue;
            }
            let steps = taken.entry(place).or_default();
            if let Some(step) = rule.then.get(*steps) {
                *steps += 1;
                return Some((format!("rule {} step {steps}", index + 1), step.clone()));
            }
        }
        None
    }
}

impl Step {
    /// What does not go together in it.
    fn contradiction(&self) -> Option<&'static str> {
        let speaks = self.content.is_some() || self.refusal.is_some();
        let kinds = [self.status.is_some(), self.garbage, speaks];
        if kinds.iter().filter(|kind| **kind).count() > 1 {
            Some("status, garbage and content or refusal exclude each other")
        } else if self.body.is_some() && self.status.is_none() {
            Some("body goes with status")
        } else if self.finish_reason.is_some() && !speaks {
            Some("finish_reason goes with content or refusal")
        } else if self.status.is_some_and(|status| !(200..600).contains(&status)) {
            Some("status is from 200 to 599")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn script(text: &str) -> Result<Script, EvalError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Script::read(file.path())
    }

    #[test]
    fn a_prompt_takes_the_steps_of_its_rule_in_turn() {
        let script = script(concat!(
            r#"{"nth": 2, "then": [{"status": 429, "headers": {"Retry-After": 3}}, {"garbage": true}]}"#,
            "\n\n",
            r#"{"contains": "x", "then": [{"content": null, "delay_ms": 5}]}"#
        ))
        .unwrap();
        let step = |number, prompt: &str| {
            script.step(number, &[Message::new("user", prompt)], prompt).map(|(name, _)| name)
        };
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(step(1, "ax"), name("rule 2 step 1"));
        assert_eq!(step(2, "bx"), name("rule 1 step 1"));
        assert_eq!(step(3, "c"), None);
        assert_eq!(step(4, "ax"), None);
        assert_eq!(step(5, "bx"), name("rule 1 step 2"));
        assert_eq!(step(6, "bx"), name("rule 2 step 1"));
        assert_eq!(step(7, "bx"), None);
        let steps: Vec<&Step> = script.rules.iter().flat_map(|rule| &rule.then).collect();
        assert_eq!(steps[0].headers, [("Retry-After".to_owned(), "3".to_owned())]);
        assert_eq!((steps[2].content.clone(), steps[2].delay), (Some(None), Duration::from_millis(5)));
        assert_eq!(steps[1].content, None);
    }

    #[test]
    fn what_is_no_rule_is_told_by_row() {
        for (row, message) in [
            (r#"{"then": [{}]}"#, "either nth or contains"),
            (r#"{"nth": 1, "contains": "x", "then": [{}]}"#, "either nth or contains"),
            (r#"{"nth": 0, "then": [{}]}"#, "counted from 1"),
            (r#"{"nth": 1, "then": []}"#, "has no steps"),
            (r#"{"nth": 1}"#, "missing field `then`"),
            (r#"{"nth": 1, "then": [{"stat": 1}]}"#, "unknown field `stat`"),
            (r#"{"nth": 1, "then": [{}, {"status": 500, "garbage": true}]}"#, "then[1]: status, garbage"),
            (r#"{"nth": 1, "then": [{"body": "x"}]}"#, "body goes with status"),
            (r#"{"nth": 1, "then": [{"finish_reason": "length"}]}"#, "goes with content"),
            (r#"{"nth": 1, "then": [{"status": 100}]}"#, "from 200 to 599"),
            (r#"{"nth": 1, "then": [{"headers": {"a": "b\r\nc"}}]}"#, "more than one line"),
        ] {
            let error = script(&format!("\n{row}\n")).unwrap_err().to_string();
            assert!(error.contains(":2: ") && error.contains(message), "{row}: {error}");
        }
    }
}
