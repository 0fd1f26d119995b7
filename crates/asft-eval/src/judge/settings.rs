//! What `--set judge.KEY=VALUE` changes about the requests.

use serde_json::{Map, Number, Value};

use super::Params;
use crate::EvalError;

const KEYS: [&str; 5] =
    ["judge.id", "judge.max_tokens_field", "judge.temperature", "judge.extra", "judge.retry_message"];

/// Settings of a judge; by default a protocol's own parameters are sent as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Stands for the judge in the cache's keys instead of the model's name.
    pub id: Option<String>,
    /// The field that limits the length of a reply.
    pub max_tokens_field: MaxTokensField,
    /// What is sent as temperature.
    pub temperature: Temperature,
    /// Further fields of every request; they take the place of equal ones of the protocol.
    pub extra: Map<String, Value>,
    /// The message that asks again for a verdict.
    pub retry_message: Option<String>,
}

/// The field that limits the length of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxTokensField {
    /// `max_tokens`.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which newer servers want.
    MaxCompletionTokens,
}

impl MaxTokensField {
    const ALL: [Self; 2] = [Self::MaxTokens, Self::MaxCompletionTokens];

    /// Its name in a request.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// What is sent as temperature.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Temperature {
    /// That of the protocol.
    #[default]
    Protocol,
    /// This one.
    Value(Number),
    /// None, for models that take no temperature.
    Dropped,
}

impl Settings {
    /// Reads assignments `judge.KEY=VALUE`; the last one of a key counts.
    ///
    /// # Errors
    /// If a key is unknown, or a value is none of its key's.
    pub fn read(assignments: &[impl AsRef<str>]) -> Result<Self, EvalError> {
        let mut settings = Self::default();
        for assignment in assignments {
            let assignment = assignment.as_ref();
            let (key, value) = assignment.split_once('=').ok_or_else(|| {
                EvalError::Input(format!("{assignment}: is no assignment\nhint: {}=VALUE", KEYS[0]))
            })?;
            settings.assign(key.trim(), value)?;
        }
        Ok(settings)
    }

    fn assign(&mut self, key: &str, value: &str) -> Result<(), EvalError> {
        let wrong =
            |what: &str, hint: &str| EvalError::Input(format!("{key}: {value:?} {what}\nhint: {hint}"));
        match key {
            "judge.id" if value.trim().is_empty() => {
                return Err(wrong("names no judge", "the name that recorded replies stand under"));
            }
            "judge.id" => self.id = Some(value.to_owned()),
            "judge.max_tokens_field" => {
                self.max_tokens_field =
                    MaxTokensField::ALL.into_iter().find(|field| field.name() == value).ok_or_else(|| {
                        wrong("is no such field", "one of max_tokens, max_completion_tokens")
                    })?;
            }
            "judge.temperature" if value == "none" => self.temperature = Temperature::Dropped,
            "judge.temperature" => {
                let number = serde_json::from_str(value).ok().filter(|number: &Number| {
                    number.as_f64().is_some_and(|number| number.is_finite() && number >= 0.0)
                });
                self.temperature = Temperature::Value(
                    number.ok_or_else(|| wrong("is no temperature", "a number from 0 on, or none"))?,
                );
            }
            "judge.extra" => {
                let extra: Map<String, Value> = serde_json::from_str(value)
                    .map_err(|_| wrong("is no JSON object", r#"judge.extra={"seed": 1}"#))?;
                if let Some(field) =
                    ["model", "messages", "stream"].iter().find(|key| extra.contains_key(**key))
                {
                    return Err(wrong(
                        &format!("sets {field}"),
                        "model, messages and stream are not for judge.extra",
                    ));
                }
                self.extra = extra;
            }
            "judge.retry_message" if value.trim().is_empty() => {
                return Err(wrong("says nothing", "a message that asks for the verdict"));
            }
            "judge.retry_message" => self.retry_message = Some(value.to_owned()),
            _ => {
                return Err(EvalError::Input(format!(
                    "{key}: there is no such setting\nhint: one of {}",
                    KEYS.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// What is sent beside the messages, from what the protocol asks for (`temperature`, `max_tokens`, …).
    #[must_use]
    pub fn params(&self, protocol: &Params) -> Params {
        let mut params = protocol.clone();
        for field in MaxTokensField::ALL {
            if let Some(limit) = params.remove(field.name()) {
                params.insert(self.max_tokens_field.name().to_owned(), limit);
                break;
            }
        }
        match &self.temperature {
            Temperature::Protocol => {}
            Temperature::Value(number) => {
                params.insert("temperature".to_owned(), Value::Number(number.clone()));
            }
            Temperature::Dropped => {
                params.remove("temperature");
            }
        }
        params.extend(self.extra.clone());
        params
    }
}

/// The longest reply that `params` allow, in tokens.
#[must_use]
pub fn max_tokens(params: &Params) -> Option<u64> {
    MaxTokensField::ALL.iter().find_map(|field| params.get(field.name())?.as_u64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn protocol() -> Params {
        Params::from([("temperature".to_owned(), json!(0)), ("max_tokens".to_owned(), json!(2048))])
    }

    fn sent(assignments: &[&str]) -> Value {
        json!(Settings::read(assignments).unwrap().params(&protocol()))
    }

    #[test]
    fn settings_change_what_is_sent() {
        assert_eq!(sent(&[]), json!({"temperature": 0, "max_tokens": 2048}));
        assert_eq!(
            sent(&["judge.max_tokens_field=max_completion_tokens", "judge.temperature=none"]),
            json!({"max_completion_tokens": 2048})
        );
        assert_eq!(
            sent(&["judge.temperature=0.5", r#"judge.extra={"seed": 7, "max_tokens": 16}"#]),
            json!({"temperature": 0.5, "max_tokens": 16, "seed": 7})
        );
        let settings = Settings::read(&["judge.id=gpt-4", "judge.retry_message=a=b"]).unwrap();
        assert_eq!((settings.id.as_deref(), settings.retry_message.as_deref()), (Some("gpt-4"), Some("a=b")));
        let params = Settings::read(&["judge.max_tokens_field=max_completion_tokens"]).unwrap();
        assert_eq!(max_tokens(&params.params(&protocol())), Some(2048));
        assert_eq!(max_tokens(&Params::new()), None);
    }

    #[test]
    fn what_cannot_be_set_is_told() {
        for (assignment, message) in [
            ("judge.ids=x", "judge.extra, judge.retry_message"),
            ("id=x", "id: there is no such setting"),
            ("judge.id", "is no assignment"),
            ("judge.id=", "names no judge"),
            ("judge.max_tokens_field=max", "max_completion_tokens"),
            ("judge.temperature=-1", "is no temperature"),
            ("judge.temperature=warm", "is no temperature"),
            ("judge.extra=[1]", "is no JSON object"),
            (r#"judge.extra={"stream": true}"#, "sets stream"),
            ("judge.retry_message= ", "says nothing"),
        ] {
            let error = Settings::read(&[assignment]).unwrap_err();
            assert!(error.is_input() && error.to_string().contains(message), "{assignment}: {error}");
            assert!(error.to_string().contains("\nhint: "), "{assignment}: {error}");
        }
    }
}
