//! Words as jieba 0.42.1 cuts them, which LLaMA-Factory counts for ROUGE.

use std::sync::LazyLock;

use regex::Regex;

static NAMES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"AT&T|[cC]#|[cC]\+\+").expect("is a valid expression"));
static ALPHANUMERIC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[a-zA-Z0-9]+(?:\.[0-9]+)?%?").expect("is a valid expression"));

/// Whether jieba would look a letter up in its dictionary.
pub(super) fn is_han(letter: char) -> bool {
    matches!(letter, '\u{4e00}'..='\u{9fd5}')
}

/// Words of a text, white space among them: exactly jieba's for text without Han letters, of which each is a word
/// here.
#[must_use]
pub fn words(text: &str) -> Vec<&str> {
    let (mut words, mut rest) = (vec![], text);
    while let Some(first) = rest.chars().next() {
        let end = match rest.find(|letter| !is_in_run(letter)).unwrap_or(rest.len()) {
            0 if rest.starts_with("\r\n") => 2,
            0 => first.len_utf8(),
            end => end,
        };
        let (word, after) = rest.split_at(end);
        if is_in_run(first) {
            cut_run(word, &mut words)
        } else {
            words.push(word)
        }
        rest = after;
    }
    words
}

fn is_in_run(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '+' | '#' | '&' | '.' | '_' | '%' | '-')
}

/// The dictionary's few words without Han letters stand for themselves.
fn cut_run<'a>(run: &'a str, words: &mut Vec<&'a str>) {
    let mut at = 0;
    for name in NAMES.find_iter(run) {
        cut_stretch(&run[at..name.start()], words);
        words.push(name.as_str());
        at = name.end();
    }
    cut_stretch(&run[at..], words);
}

fn cut_stretch<'a>(stretch: &'a str, words: &mut Vec<&'a str>) {
    let mut at = 0;
    for word in ALPHANUMERIC.find_iter(stretch) {
        words.extend([&stretch[at..word.start()], word.as_str()].iter().filter(|part| !part.is_empty()));
        at = word.end();
    }
    words.extend(Some(&stretch[at..]).filter(|part| !part.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut by the rule by hand, and the same by jieba 0.42.1.
    #[test]
    fn runs_are_cut_as_jieba_does() {
        for (text, expected) in [
            ("AT&T c# C++11 at&t", "AT&T| |c#| |C++|11| |at|&|t"),
            ("xc+++C#c", "x|c++|+|C#|c"),
            ("3.14% 1.2.3 5%% v1.0a .5", "3.14%| |1.2|.|3| |5%|%| |v1.0|a| |.|5"),
            ("GPT-4--x_1 ...%-", "GPT|-|4|--|x|_|1| |...%-"),
            ("a\r\nb\n\r \u{1c}c", "a|\r\n|b|\n|\r| |\u{1c}|c"),
            ("é1👍🏽e\u{301}", "é|1|👍|🏽|e|\u{301}"),
            ("T恤x好的", "T|恤|x|好|的"),
            ("", ""),
        ] {
            assert_eq!(words(text).join("|"), expected, "{text:?}");
        }
    }
}
