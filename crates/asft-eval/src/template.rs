//! Texts with named fields in braces, filled in one pass: braces in what is filled in are text.

/// A template as Python's `str.format` reads it: `{name}` is a field, `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Reads a template whose fields are all among `known`.
    ///
    /// # Errors
    /// If a brace has no partner or a field is not known.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut parts = vec![];
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain += &rest[..at];
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if after.starts_with(brace) {
                plain += brace;
                rest = &after[1..];
                continue;
            }
            let end = after.find('}').filter(|_| brace == "{");
            let end = end.ok_or_else(|| format!("{brace:?} has no partner\nhint: write {brace}{brace}"))?;
            let name = &after[..end];
            if !known.contains(&name) {
                return Err(format!("there is no field {{{name}}}\nhint: known are {}", known.join(", ")));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(name.to_owned()));
            rest = &after[end + 1..];
        }
        plain += rest;
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Whether it has a field of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(field) if field == name))
    }

    /// The text with every field replaced.
    ///
    /// # Errors
    /// If a field has no value; the message names it.
    pub fn fill(&self, values: &[(&str, &str)]) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            text += match part {
                Part::Text(plain) => plain,
                Part::Field(field) => {
                    let value = values.iter().find(|(name, _)| name == field);
                    value.ok_or_else(|| format!("there is nothing to put into {{{field}}}"))?.1
                }
            };
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in_one_pass() {
        let template = Template::parse("Q: {q}\n{{A}}: {a}{a}", &["q", "a"]).unwrap();
        assert_eq!(template.fill(&[("q", "{a} }"), ("a", "{q}")]).unwrap(), "Q: {a} }\n{A}: {q}{q}");
        assert!(template.fill(&[("q", "")]).unwrap_err().contains("{a}"));
        assert!(template.has("a") && !template.has("A"));
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (text, message) in
            [("{x}", "no field {x}"), ("a { b", "no partner"), ("a } b", "write }}"), ("{}", "no field {}")]
        {
            assert!(Template::parse(text, &["q"]).unwrap_err().contains(message), "{text}");
        }
    }
}
