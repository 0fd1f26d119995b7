//! Texts for a terminal or a browser, which act on control characters.

use std::borrow::Cow;

/// The text with its control characters but line end and tab replaced: those of ASCII by their pictures (`␛`), others
/// by U+FFFD.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let acts = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|letter| match letter {
        _ if !acts(letter) => letter,
        '\u{7f}' => '\u{2421}',
        // The pictures stand in the order of the characters.
        _ if letter.is_ascii() => char::from_u32(0x2400 + u32::from(letter)).expect("a picture"),
        _ => char::REPLACEMENT_CHARACTER,
    });
    Cow::Owned(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        let text = "a\tb\nc\r\0\u{1b}[2J\u{7f}\u{9b}2J é 😀";
        assert_eq!(printable(text), "a\tb\nc␍␀␛[2J␡\u{fffd}2J é 😀");
        assert!(matches!(printable("a\tb\né"), Cow::Borrowed(_)));
    }
}
