//! transformers' `tojson` filter: Python's `json.dumps`, text not escaped to ASCII unless asked for.

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, Rest, ValueKind},
};

/// `tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, positional: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    if positional.len() > 4 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let [ensure_ascii, indent, separators, sort_keys] =
        [0, 1, 2, 3].map(|index| positional.get(index).cloned());
    let option = |given: Option<Value>, name: &str| -> Result<Value, Error> {
        let given = match given {
            Some(value) => Some(value),
            None => kwargs.get(name)?,
        };
        Ok(given.unwrap_or_default())
    };
    let indent = option(indent, "indent")?;
    let indent = match indent.kind() {
        ValueKind::None | ValueKind::Undefined => None,
        ValueKind::String => Some(indent.to_string()),
        _ => Some(" ".repeat(usize::try_from(indent)?.min(64))),
    };
    let separators = option(separators, "separators")?;
    let (item, key) = match separators.kind() {
        ValueKind::None | ValueKind::Undefined => {
            (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned())
        }
        _ => (separators.get_item_by_index(0)?.to_string(), separators.get_item_by_index(1)?.to_string()),
    };
    let ensure_ascii = option(ensure_ascii, "ensure_ascii")?.is_true();
    let sort_keys = option(sort_keys, "sort_keys")?.is_true();
    kwargs.assert_all_used()?;
    let mut writer = Writer { out: String::new(), indent, item, key, ensure_ascii, sort_keys, depth: 0 };
    writer.value(value)?;
    Ok(Value::from(writer.out))
}

struct Writer {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            // minijinja makes the sum of two lists an iterable.
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container('[', ']', items, |writer, item| writer.value(&item))?;
            }
            ValueKind::Map => {
                let mut entries = vec![];
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    entries.push((key, item));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.container('{', '}', entries, |writer, (key, item)| {
                    match key.as_str() {
                        Some(key) => writer.string(key),
                        None => {
                            writer.out.push('"');
                            writer.value(&key)?;
                            writer.out.push('"');
                        }
                    }
                    writer.out.push_str(&writer.key.clone());
                    writer.value(&item)
                })?;
            }
            other => {
                let reason = format!("tojson cannot write a value of type {other}");
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        }
        Ok(())
    }

    fn container<T>(
        &mut self,
        open: char,
        close: char,
        items: Vec<T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let empty = items.is_empty();
        self.depth += 1;
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line();
            write(self, item)?;
        }
        self.depth -= 1;
        if !empty {
            self.line();
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.depth));
        }
    }

    fn string(&mut self, text: &str) {
        // serde_json escapes what json.dumps escapes, and in the same way.
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            return self.out.push_str(&quoted);
        }
        for c in quoted.chars() {
            match c.is_ascii() && c != '\x7f' {
                true => self.out.push(c),
                false => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| self.out += &format!("\\u{unit:04x}"))
                }
            }
        }
    }
}

/// `float.__repr__`: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .into();
    }
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        let digits = value.to_string();
        return if digits.contains('.') { digits } else { digits + ".0" };
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or_default();
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        None => text,
    }
}

/// A JSON value as a template variable.
pub(super) fn to_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_value).collect(),
        Json::Object(entries) => {
            Value::from_pairs(entries.iter().map(|(key, value)| (key.as_str(), to_value(value))))
        }
    }
}
