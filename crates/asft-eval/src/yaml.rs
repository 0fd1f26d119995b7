//! As much YAML as judges' configuration files use: a block mapping of plain and quoted scalars and of lists.
//!
//! What is beyond that is refused by line and name, never half read.

use std::path::Path;

use serde_json::{Map, Number, Value};

use crate::{EvalError, files};

/// A file's mapping.
///
/// # Errors
/// If it cannot be read or uses other parts of YAML.
pub fn read(path: &Path) -> Result<Map<String, Value>, EvalError> {
    parse(&files::read_text(path)?).map_err(|Fault { line, what }| EvalError::row(path, line, what))
}

/// Mappings and lists within one another at most, as in serde_json: each takes room on the stack.
const DEPTH: usize = 128;

struct Fault {
    line: usize,
    what: String,
}

fn parse(text: &str) -> Result<Map<String, Value>, Fault> {
    let mut reader = Reader { rest: text, line: 1, depth: 0 };
    reader.skip_blank_lines();
    if reader.rest.starts_with("---") {
        reader.end_of_line_after(3)?;
    }
    reader.mapping(0)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    depth: usize,
}

impl Reader<'_> {
    /// What `read` reads one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == DEPTH {
            return self
                .fault(format!("is nested deeper than {DEPTH} levels\nhint: put texts into double quotes"));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn fault<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { line: self.line, what: what.into() })
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }

    /// Passes over lines of white space and comments.
    fn skip_blank_lines(&mut self) {
        while let Some(line) = self.rest.split_inclusive('\n').next() {
            let text = line.trim();
            if !text.is_empty() && !text.starts_with('#') {
                break;
            }
            self.advance(line.len());
        }
    }

    /// Passes over spaces, and within brackets over line ends and comments too.
    fn skip_white_space(&mut self, lines: bool) {
        loop {
            let spaces = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
            self.advance(spaces);
            match self.rest.chars().next() {
                Some('\n' | '\r') if lines => self.advance(1),
                Some('#') if lines => self.advance(self.rest.find('\n').unwrap_or(self.rest.len())),
                _ => return,
            }
        }
    }

    fn indentation(&self) -> usize {
        self.rest.len() - self.rest.trim_start_matches(' ').len()
    }

    /// Goes to the next line, of which nothing but a comment may be left.
    fn end_of_line_after(&mut self, bytes: usize) -> Result<(), Fault> {
        self.advance(bytes);
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let left = self.rest[..end].trim();
        if !left.is_empty() && !left.starts_with('#') {
            return self.fault(format!("{left:?} is too much here\nhint: put the text into double quotes"));
        }
        self.advance(end);
        Ok(())
    }

    fn mapping(&mut self, indentation: usize) -> Result<Map<String, Value>, Fault> {
        let mut mapping = Map::new();
        loop {
            self.skip_blank_lines();
            let found = self.indentation();
            if self.rest.is_empty() || found < indentation {
                return Ok(mapping);
            }
            if found > indentation {
                return self
                    .fault("is indented too far\nhint: put texts of several lines into double quotes");
            }
            self.advance(found);
            let key = self.key()?;
            if mapping.contains_key(&key) {
                return self.fault(format!("{key}: stands in the mapping twice"));
            }
            let value = self.value_of_key(indentation)?;
            mapping.insert(key, value);
        }
    }

    fn key(&mut self) -> Result<String, Fault> {
        let key = match self.rest.chars().next() {
            Some('\t') => return self.fault("is indented with a tab\nhint: YAML takes spaces"),
            Some('"' | '\'') => self.quoted()?,
            _ => {
                let line = self.rest.lines().next().unwrap_or_default();
                let Some(end) = line.find(": ").or_else(|| line.trim_end().strip_suffix(':').map(str::len))
                else {
                    return self.fault(format!("{:?} is no KEY: VALUE", line.trim()));
                };
                let key = line[..end].trim_end().to_owned();
                if key.starts_with(['-', '?', '[', '{', '&', '*', '!', '|', '>', '@', '`', '%']) {
                    return self.fault(format!("{key:?} is no key that is read here"));
                }
                self.advance(end);
                key
            }
        };
        self.skip_white_space(false);
        match self.rest.starts_with(':') {
            true => self.advance(1),
            false => return self.fault(format!("{key:?} is not followed by a colon")),
        }
        Ok(key)
    }

    fn value_of_key(&mut self, indentation: usize) -> Result<Value, Fault> {
        self.skip_white_space(false);
        if !matches!(self.rest.chars().next(), None | Some('\n' | '\r' | '#')) {
            let value = self.flow_value(false)?;
            self.end_of_line_after(0)?;
            return Ok(value);
        }
        self.end_of_line_after(0)?;
        self.skip_blank_lines();
        let found = self.indentation();
        let is_list = ["- ", "-\n", "-\r"].iter().any(|dash| self.rest[found..].starts_with(dash))
            || &self.rest[found..] == "-";
        match is_list {
            true if found >= indentation => Ok(Value::Array(self.list(found)?)),
            false if found > indentation => self.deeper(|reader| reader.mapping(found)).map(Value::Object),
            _ => Ok(Value::Null),
        }
    }

    fn list(&mut self, indentation: usize) -> Result<Vec<Value>, Fault> {
        let mut list = vec![];
        loop {
            self.skip_blank_lines();
            if self.indentation() != indentation || !self.rest[indentation..].starts_with('-') {
                return Ok(list);
            }
            self.advance(indentation + 1);
            self.skip_white_space(false);
            let value = match self.rest.chars().next() {
                None | Some('\n' | '\r' | '#') => Value::Null,
                _ => self.flow_value(false)?,
            };
            list.push(value);
            self.end_of_line_after(0)?;
        }
    }

    /// A scalar or a list in brackets.
    fn flow_value(&mut self, in_list: bool) -> Result<Value, Fault> {
        match self.rest.chars().next() {
            Some('"' | '\'') => Ok(Value::String(self.quoted()?)),
            Some('[') => self.deeper(Self::flow_list).map(Value::Array),
            Some(mark @ ('{' | '|' | '>' | '&' | '*' | '!' | '%' | '@' | '`')) => self.fault(format!(
                "{mark:?} begins what is not read here\nhint: put the text into double quotes"
            )),
            _ => self.plain(in_list),
        }
    }

    fn flow_list(&mut self) -> Result<Vec<Value>, Fault> {
        self.advance(1);
        let mut list = vec![];
        loop {
            self.skip_white_space(true);
            if self.rest.starts_with(']') {
                self.advance(1);
                return Ok(list);
            }
            list.push(self.flow_value(true)?);
            self.skip_white_space(true);
            match self.rest.chars().next() {
                Some(',') => self.advance(1),
                Some(']') => {}
                _ => return self.fault("a list in brackets has no end"),
            }
        }
    }

    fn plain(&mut self, in_list: bool) -> Result<Value, Fault> {
        let line = self.rest.lines().next().unwrap_or_default();
        let mut end = line.find(" #").unwrap_or(line.len());
        if in_list {
            end = line.find([',', ']']).unwrap_or(line.len()).min(end);
        }
        let text = line[..end].trim_end();
        if text.contains(": ") || text.ends_with(':') || text.is_empty() {
            return self.fault(format!("{text:?} is no text\nhint: put it into double quotes"));
        }
        let value = scalar(text);
        self.advance(end);
        Ok(value)
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let quote = self.rest.chars().next().expect("a quote");
        let (begin, line) = (self.rest, self.line);
        let fault = |what: &str| Err(Fault { line, what: what.to_owned() });
        let mut text = String::new();
        let mut letters = begin[1..].char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\'' if quote == '\'' && letters.as_str().starts_with('\'') => {
                    letters.next();
                    text.push('\'');
                }
                _ if letter == quote => {
                    self.advance(1 + at + 1);
                    return Ok(text);
                }
                '\\' if quote == '"' => match letters.next().map(|(_, letter)| letter) {
                    Some('\n') => {
                        let blank =
                            letters.as_str().len() - letters.as_str().trim_start_matches([' ', '\t']).len();
                        letters.by_ref().take(blank).for_each(|_| {});
                    }
                    Some(letter @ ('x' | 'u' | 'U')) => {
                        let digits = match letter {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let number = letters
                            .as_str()
                            .get(..digits)
                            .and_then(|digits| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32));
                        let Some(number) = number else {
                            return fault("a quoted text has a wrong \\ escape");
                        };
                        text.push(number);
                        letters.by_ref().take(digits).for_each(|_| {});
                    }
                    Some(letter) => match escaped(letter) {
                        Some(letter) => text.push(letter),
                        None => return fault(&format!("a quoted text has the unknown escape \\{letter}")),
                    },
                    None => break,
                },
                '\n' => {
                    // A line end is a space, and n blank lines are n line ends.
                    text.truncate(text.trim_end_matches([' ', '\t', '\r']).len());
                    let rest = letters.as_str();
                    let blank = &rest[..rest.len() - rest.trim_start().len()];
                    let empty_lines = blank.matches('\n').count();
                    text.push_str(&if empty_lines == 0 { " ".to_owned() } else { "\n".repeat(empty_lines) });
                    letters.by_ref().take(blank.chars().count()).for_each(|_| {});
                }
                _ => text.push(letter),
            }
        }
        fault("a quoted text has no end")
    }
}

fn escaped(letter: char) -> Option<char> {
    Some(match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'e' => '\u{1b}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        '"' | '\\' | '/' | ' ' | '\t' => letter,
        _ => return None,
    })
}

fn scalar(text: &str) -> Value {
    match text {
        "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_digit());
    let whole = || text.parse::<i64>().ok().map(Number::from);
    let fraction = || text.parse::<f64>().ok().and_then(Number::from_f64);
    match is_number.then(|| whole().or_else(fraction)).flatten() {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        Value::Object(parse(text).map_err(|fault| format!("{}: {}", fault.line, fault.what)).unwrap())
    }

    #[test]
    fn what_configuration_files_use() {
        let text = "---\n# a comment\nname: file for \"Arena\" # why\nref: null  \n\nflag: True\ncount: 2\nhalf: 0.5\n\
                    pattern: \\[\\[([AB<>=]+)\\]\\]\nquoted: \"a: b\\n\\\"c\\\" # \\u00e9\\x41\"\n'single': 'it''s'\n\
                    template: [\"{q}, [x]\\n\", plain, [1, 2],\n  'last' # end\n]\n\
                    models:\n  - gpt-3.5\n  # none\n  - 7\nflat:\n- a\n\
                    nested:\n  inner:\n    deep: x\n  other: y\nempty:\n";
        assert_eq!(
            value(text),
            json!({
                "name": "file for \"Arena\"", "ref": null, "flag": true, "count": 2, "half": 0.5,
                "pattern": "\\[\\[([AB<>=]+)\\]\\]", "quoted": "a: b\n\"c\" # éA", "single": "it's",
                "template": ["{q}, [x]\n", "plain", [1, 2], "last"], "models": ["gpt-3.5", 7], "flat": ["a"],
                "nested": {"inner": {"deep": "x"}, "other": "y"}, "empty": null
            })
        );
    }

    #[test]
    fn lines_in_quotes_are_folded() {
        assert_eq!(
            value("a: \"one  \n  two\n\n\n  three\\\n   four\"\nb: 1\n"),
            json!({"a": "one two\n\nthreefour", "b": 1})
        );
    }

    #[test]
    fn depth_has_an_end() {
        let lists = |depth: usize| format!("b: 1\na: {}{}\n", "[".repeat(depth), "]".repeat(depth));
        let mappings =
            |depth: usize| (0..depth).map(|at| format!("{}a:\n", " ".repeat(at))).collect::<String>();
        assert!(parse(&lists(DEPTH)).is_ok() && parse(&mappings(DEPTH)).is_ok());
        for (text, line) in
            [(lists(30_000), 2), (format!("\na: {}", "[".repeat(30_000)), 2), (mappings(3_000), 130)]
        {
            let fault = parse(&text).map(|_| ()).unwrap_err();
            assert_eq!(fault.line, line, "{}", fault.what);
            assert!(fault.what.starts_with("is nested deeper than 128 levels"), "{}", fault.what);
        }
        // serde_json has the same limit.
        let json = format!("{{\"a\":{}}}", "[".repeat(30_000));
        assert!(serde_json::from_str::<Value>(&json).unwrap_err().to_string().contains("recursion limit"));
    }

    #[test]
    fn the_rest_is_refused_by_line() {
        for (text, message) in [
            ("a: 1\nb: |\n  text\n", "2: '|' begins"),
            ("a: {b: 1}\n", "1: '{' begins"),
            ("a: one\n  two\n", "2: is indented too far"),
            ("a: b: c\n", "1: \"b: c\" is no text"),
            ("a\n", "1: \"a\" is no KEY: VALUE"),
            ("a: 1\na: 2\n", "2: a: stands in the mapping twice"),
            ("a: \"b\n", "1: a quoted text has no end"),
            ("a: \"b\" c\n", "1: \"c\" is too much here"),
            ("a: \"\\q\"\n", "1: a quoted text has the unknown escape \\q"),
            ("a: [1,\n2\n", "3: a list in brackets has no end"),
            ("a:\n  - b: 1\n", "2: \"b: 1\" is no text"),
            ("a:\n\t- b\n", "2: is indented with a tab"),
        ] {
            let fault = parse(text).map(|_| ()).unwrap_err();
            let told = format!("{}: {}", fault.line, fault.what);
            assert!(told.starts_with(message), "{text:?}: {told}");
        }
    }
}
