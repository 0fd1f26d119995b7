//! Rows to be answered: a prompt each, and columns that go into the output as they are.

use std::path::Path;

use asft_data::{Message, read::kind};
use asft_eval::{EvalError, jsonl};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// A row of the input.
pub struct Row {
    /// 1-based line.
    pub line: usize,
    /// What is answered.
    pub prompt: Prompt,
    /// Its other columns.
    pub columns: Map<String, Value>,
}

/// A user's turn, or a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    Text(String),
    Turns(Vec<Message>),
}

/// Reads all rows; `own` are the columns of the output, which no row may have.
pub fn read(path: &Path, own: &[&str]) -> Result<Vec<Row>, Failure> {
    let mut rows = vec![];
    for (line, value) in jsonl::read(path)? {
        let row = match value {
            Value::Object(columns) => row(line, columns, own),
            _ => unreachable!("rows are objects"),
        };
        rows.push(row.map_err(|what| EvalError::row(path, line, what))?);
    }
    match rows.is_empty() {
        true => Err(Failure::input(format!("{}: holds no row", path.display()))),
        false => Ok(rows),
    }
}

/// Who speaks in a conversation, as chat templates know them.
const ROLES: [&str; 5] = ["system", "user", "assistant", "tool", "ipython"];

const FORM: &str =
    "hint: a prompt is a text, or a list of turns {\"role\": …, \"content\": …} with a text each";

fn row(line: usize, mut columns: Map<String, Value>, own: &[&str]) -> Result<Row, String> {
    // The others keep their order.
    let prompt = match columns.shift_remove("prompt") {
        None => {
            let there: Vec<&str> = columns.keys().map(String::as_str).collect();
            return Err(format!("prompt: is missing; the row has {}\n{FORM}", there.join(", ")));
        }
        Some(prompt) => prompt_of(prompt).map_err(|what| format!("{what}\n{FORM}"))?,
    };
    match own.iter().find(|column| columns.contains_key(**column)) {
        Some(column) => Err(format!(
            "{column}: the output has a column of this name itself\nhint: rename it or leave it out, and so with {}",
            own.join(", ")
        )),
        None => Ok(Row { line, prompt, columns }),
    }
}

fn prompt_of(value: Value) -> Result<Prompt, String> {
    let turns = match value {
        Value::String(text) if text.trim().is_empty() => return Err("prompt: says nothing".to_owned()),
        Value::String(text) => return Ok(Prompt::Text(text)),
        Value::Array(turns) => turns,
        other => return Err(format!("prompt: is {}", kind(&other))),
    };
    if turns.is_empty() {
        return Err("prompt: has no turn".to_owned());
    }
    let turn = |(place, turn): (usize, &Value)| {
        let Value::Object(turn) = turn else { return Err(format!("prompt[{place}]: is {}", kind(turn))) };
        let text = |field: &str| match turn.get(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("prompt[{place}].{field}: is {}", kind(other))),
            None => Err(format!("prompt[{place}].{field}: is missing")),
        };
        let (role, content) = (text("role")?, text("content")?);
        match ROLES.contains(&role.as_str()) {
            true => Ok(Message::new(role, content)),
            false => Err(format!("prompt[{place}].role: is {role:?}, and none of {}", ROLES.join(", "))),
        }
    };
    let turns: Vec<Message> = turns.iter().enumerate().map(turn).collect::<Result<_, _>>()?;
    match turns.last() {
        Some(last) if last.role == "assistant" || last.role == "system" => {
            Err(format!("prompt: ends with a turn of role {}, which nothing answers", last.role))
        }
        Some(last) if last.content.trim().is_empty() => Err("prompt: its last turn says nothing".to_owned()),
        _ => Ok(Prompt::Turns(turns)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Row, String> {
        let Value::Object(columns) = value else { panic!("an object") };
        row(1, columns, &["index", "text"])
    }

    #[test]
    fn other_columns_stay_in_their_order() {
        let row = read(
            json!({"id": 7, "prompt": [{"role": "user", "content": "hi", "name": "x"}], "a": [1], "z": null}),
        )
        .ok()
        .unwrap();
        assert_eq!(row.prompt, Prompt::Turns(vec![Message::new("user", "hi")]));
        assert_eq!(serde_json::to_string(&row.columns).unwrap(), r#"{"id":7,"a":[1],"z":null}"#);
    }

    #[test]
    fn what_is_wrong_with_a_row_is_told() {
        for (value, message) in [
            (json!({"text": "a", "b": 1}), "prompt: is missing; the row has text, b\nhint: a prompt is"),
            (json!({"prompt": 3}), "prompt: is a number\nhint: a prompt is"),
            (json!({"prompt": {"role": "user"}}), "prompt: is an object"),
            (json!({"prompt": []}), "prompt: has no turn"),
            (json!({"prompt": ["hi"]}), "prompt[0]: is a string"),
            (json!({"prompt": " \n"}), "prompt: says nothing\nhint: a prompt is"),
            (
                json!({"prompt": [{"role": "alien", "content": "a"}]}),
                "prompt[0].role: is \"alien\", and none of system, user, assistant",
            ),
            (
                json!({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
                "prompt: ends with a turn of role assistant",
            ),
            (json!({"prompt": [{"role": "user", "content": ""}]}), "prompt: its last turn says nothing"),
            (
                json!({"prompt": [{"role": "user", "content": "a"}, {"content": "b"}]}),
                "prompt[1].role: is missing",
            ),
            (
                json!({"prompt": [{"role": "user", "content": [{"text": "a"}]}]}),
                "prompt[0].content: is an array",
            ),
            (
                json!({"prompt": "a", "text": "b"}),
                "text: the output has a column of this name itself\nhint: rename",
            ),
        ] {
            let error = read(value).err().unwrap();
            assert!(error.starts_with(message), "{message}: {error}");
        }
    }
}
