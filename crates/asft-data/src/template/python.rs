//! Where Jinja2 in Python differs from minijinja: what counts as white space, how None and booleans print,
//! `strftime`, line ends of the source, and transformers' `{% generation %}` blocks.

use std::borrow::Cow;

use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter, value::ValueKind};
use minijinja_contrib::pycompat::unknown_method_callback;
use time::PrimitiveDateTime;

/// Teaches an environment Python's ways.
pub(super) fn extend(environment: &mut Environment<'static>) {
    environment.set_formatter(format);
    environment.add_filter("trim", trim);
    environment.set_unknown_method_callback(|state, value, method, args| {
        match (value.as_str(), method, args) {
            (Some(text), "strip", []) => Ok(text.trim_matches(is_space).into()),
            (Some(text), "lstrip", []) => Ok(text.trim_start_matches(is_space).into()),
            (Some(text), "rstrip", []) => Ok(text.trim_end_matches(is_space).into()),
            (Some(text), "split", []) => {
                Ok(text.split(is_space).filter(|word| !word.is_empty()).map(Value::from).collect())
            }
            _ => unknown_method_callback(state, value, method, args),
        }
    });
}

/// `str.isspace`: Unicode white space and the four information separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.write_str("None").map_err(Error::from),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from),
        _ => escape_formatter(out, state, value),
    }
}

fn trim(value: &Value, chars: Option<Cow<'_, str>>) -> String {
    let text = value.as_str().map_or_else(|| Cow::from(value.to_string()), Cow::from);
    match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_owned(),
        None => text.trim_matches(is_space).to_owned(),
    }
}

/// The source as Jinja2 reads it: line ends as `\n`, and `{% generation %}` blocks, which mark what the
/// assistant says and print it unchanged, as plain scopes.
pub(super) fn source(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        for (word, plain) in [("generation", "with"), ("endgeneration", "endwith")] {
            let open = tag.trim_start_matches(['-', '+']).trim_start();
            let Some(close) = open.strip_prefix(word) else {
                continue;
            };
            if close.trim_start().trim_start_matches(['-', '+']).starts_with("%}") {
                out.push_str(&tag[..tag.len() - open.len()]);
                out.push_str(plain);
                rest = close;
                break;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Python's `datetime.strftime` in the C locale, for the directives that name dates and times of day.
pub(super) fn strftime(now: PrimitiveDateTime, format: &str) -> Result<String, Error> {
    let month = now.month().to_string();
    let weekday = now.weekday().to_string();
    let (hour, half) = ((now.hour() + 11) % 12 + 1, if now.hour() < 12 { "AM" } else { "PM" });
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = chars.next();
        // glibc's flag for numbers without padding.
        let (bare, directive) = match directive {
            Some('-') => (true, chars.next()),
            other => (false, other),
        };
        let two = |number: u8| {
            if bare { number.to_string() } else { format!("{number:02}") }
        };
        out.push_str(&match directive {
            Some('d') => two(now.day()),
            Some('m') => two(now.month().into()),
            Some('y') => two((now.year() % 100) as u8),
            Some('H') => two(now.hour()),
            Some('I') => two(hour),
            Some('M') => two(now.minute()),
            Some('S') => two(now.second()),
            Some('j') if bare => now.ordinal().to_string(),
            Some('j') => format!("{:03}", now.ordinal()),
            Some('e') => format!("{:2}", now.day()),
            Some('Y') => now.year().to_string(),
            Some('b' | 'h') => month.chars().take(3).collect(),
            Some('B') => month.clone(),
            Some('a') => weekday.chars().take(3).collect(),
            Some('A') => weekday.clone(),
            Some('p') => half.into(),
            Some('f') => format!("{:06}", now.microsecond()),
            Some('F') => strftime(now, "%Y-%m-%d")?,
            Some('T') => strftime(now, "%H:%M:%S")?,
            Some('D' | 'x') => strftime(now, "%m/%d/%y")?,
            Some('X') => strftime(now, "%H:%M:%S")?,
            Some('c') => strftime(now, "%a %b %e %H:%M:%S %Y")?,
            Some('n') => "\n".into(),
            Some('t') => "\t".into(),
            Some('%') => "%".into(),
            // A datetime without a zone prints these as nothing.
            Some('z' | 'Z') => String::new(),
            other => {
                let other = other.map_or_else(|| "its end".into(), |c| format!("`{c}`"));
                let reason = format!("strftime_now cannot format `{format}`: unknown directive {other}");
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        });
    }
    Ok(out)
}
