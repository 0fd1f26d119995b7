//! White space as Python has it: Unicode's, and the four separators U+001C to U+001F.

/// Whether Python's `str.isspace` holds for a letter.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{1c}'..='\u{1f}')
}

/// What `str.split()` gives: no empty parts.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|part| !part.is_empty())
}

/// What `str.rstrip()` gives.
pub(super) fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_that_of_python() {
        let python = "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\
            \u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
        let ours: String = ('\0'..=char::MAX).filter(|&letter| is_space(letter)).collect();
        assert_eq!(ours, python);
        assert_eq!(split("\u{1f}a\u{3000}\r\nb ").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(strip_end(" a\u{1c}\n"), " a");
    }
}
