//! JSON in one form only, so that equal requests have equal hashes.

use std::collections::BTreeMap;

use serde_json::Value;

/// Keys sorted, no spaces, nothing escaped that need not be. A number that is whole is written as an integer:
/// `0` and `0.0` are one temperature.
#[must_use]
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            list(text, ['{', '}'], sorted.into_iter(), |(key, value), text| {
                *text += &Value::from(key.as_str()).to_string();
                text.push(':');
                write(value, text);
            });
        }
        Value::Array(values) => list(text, ['[', ']'], values.iter(), write),
        // Doubles hold every whole number up to 2^53.
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                *text += &(float as i64).to_string();
            }
            _ => *text += &number.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::String(_) => *text += &value.to_string(),
    }
}

fn list<T>(
    text: &mut String,
    [open, close]: [char; 2],
    values: impl Iterator<Item = T>,
    one: impl Fn(T, &mut String),
) {
    text.push(open);
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push(',');
        }
        one(value, text);
    }
    text.push(close);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_form_only() {
        let value = json!({"b": [1.5, 2.0, null], "a": {"é": "\"/\n\u{7f}", "Z": -0.0}, "c": {}, "d": []});
        assert_eq!(
            canonical(&value),
            "{\"a\":{\"Z\":0,\"é\":\"\\\"/\\n\u{7f}\"},\"b\":[1.5,2,null],\"c\":{},\"d\":[]}"
        );
    }
}
