//! Porter's stemmer of 1980 as NLTK varies it, which rouge-score uses. Porter2 ("English" of Snowball) is another.

/// The stem of a lower-case ASCII word; digits count as consonants.
#[must_use]
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(words, _)| words.contains(&word)) {
        return (*stem).to_owned();
    }
    let mut stem = word.to_owned();
    if word.len() > 2 {
        for step in
            [plural, past_and_progressive, final_y, double_suffixes, long_suffixes, last_suffixes, tidy]
        {
            step(&mut stem);
        }
    }
    stem
}

const IRREGULAR: [(&[&str], &str); 12] = [
    (&["sky", "skies"], "sky"),
    (&["dying"], "die"),
    (&["lying"], "lie"),
    (&["tying"], "tie"),
    (&["news"], "news"),
    (&["innings", "inning"], "inning"),
    (&["outings", "outing"], "outing"),
    (&["cannings", "canning"], "canning"),
    (&["howe"], "howe"),
    (&["proceed"], "proceed"),
    (&["exceed"], "exceed"),
    (&["succeed"], "succeed"),
];

/// Puts the first suffix that matches in place of another if the condition holds of what stands before it and of
/// the suffix. Whether any matched.
fn replace(word: &mut String, rules: &[(&str, &str)], condition: impl Fn(&str, &str) -> bool) -> bool {
    let Some((suffix, other)) = rules.iter().find(|(suffix, _)| word.ends_with(suffix)) else { return false };
    let before = word.len() - suffix.len();
    if condition(&word[..before], suffix) {
        word.replace_range(before.., other);
    }
    true
}

/// Step 1a.
fn plural(word: &mut String) {
    let ies = if word.len() == 4 { "ie" } else { "i" };
    replace(word, &[("sses", "ss"), ("ies", ies), ("ss", "ss"), ("s", "")], |_, _| true);
}

/// Step 1b.
fn past_and_progressive(word: &mut String) {
    let ied = if word.len() == 4 { "ie" } else { "i" };
    if replace(word, &[("ied", ied)], |_, _| true)
        || replace(word, &[("eed", "ee")], |stem, _| measure(stem) > 0)
    {
        return;
    }
    let length = word.len();
    replace(word, &[("ed", ""), ("ing", "")], |stem, _| consonants(stem).any(|consonant| !consonant));
    if word.len() == length || replace(word, &[("at", "ate"), ("bl", "ble"), ("iz", "ize")], |_, _| true) {
        return;
    }
    if let [.., before, last] = *word.as_bytes()
        && before == last
        && last.is_ascii()
        && consonants(word).last() == Some(true)
    {
        if !matches!(last, b'l' | b's' | b'z') {
            word.pop();
        }
    } else if measure(word) == 1 && ends_short(word) {
        word.push('e');
    }
}

/// Step 1c.
fn final_y(word: &mut String) {
    replace(word, &[("y", "i")], |stem, _| stem.len() > 1 && consonants(stem).last() == Some(true));
}

/// Step 2.
fn double_suffixes(word: &mut String) {
    replace(word, &[("alli", "al")], |stem, _| measure(stem) > 0);
    let rules = [
        ("ational", "ate"),
        ("tional", "tion"),
        ("enci", "ence"),
        ("anci", "ance"),
        ("izer", "ize"),
        ("bli", "ble"),
        ("alli", "al"),
        ("entli", "ent"),
        ("eli", "e"),
        ("ousli", "ous"),
        ("ization", "ize"),
        ("ation", "ate"),
        ("ator", "ate"),
        ("alism", "al"),
        ("iveness", "ive"),
        ("fulness", "ful"),
        ("ousness", "ous"),
        ("aliti", "al"),
        ("iviti", "ive"),
        ("biliti", "ble"),
        ("fulli", "ful"),
        ("logi", "log"),
    ];
    replace(word, &rules, |stem, suffix| match suffix {
        "logi" => measure(&format!("{stem}l")) > 0,
        _ => measure(stem) > 0,
    });
}

/// Step 3.
fn long_suffixes(word: &mut String) {
    let rules = [
        ("icate", "ic"),
        ("ative", ""),
        ("alize", "al"),
        ("iciti", "ic"),
        ("ical", "ic"),
        ("ful", ""),
        ("ness", ""),
    ];
    replace(word, &rules, |stem, _| measure(stem) > 0);
}

/// Step 4.
fn last_suffixes(word: &mut String) {
    let suffixes = [
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
        "ate", "iti", "ous", "ive", "ize",
    ];
    replace(word, &suffixes.map(|suffix| (suffix, "")), |stem, suffix| {
        measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't']))
    });
}

/// Step 5.
fn tidy(word: &mut String) {
    replace(word, &[("e", "")], |stem, _| match measure(stem) {
        0 => false,
        1 => !ends_short(stem),
        _ => true,
    });
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}

/// For each letter whether it is a consonant: y is one at the start and after a vowel.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    word.bytes().scan(false, |consonant, letter| {
        *consonant = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*consonant,
            _ => true,
        };
        Some(*consonant)
    })
}

/// Porter's m: how often consonants follow vowels.
fn measure(stem: &str) -> usize {
    let (mut measure, mut previous) = (0, true);
    for consonant in consonants(stem) {
        measure += usize::from(consonant && !previous);
        previous = consonant;
    }
    measure
}

/// Porter's *o: consonant, vowel, consonant other than w, x, y; or, in NLTK, vowel and consonant alone.
fn ends_short(stem: &str) -> bool {
    match *consonants(stem).collect::<Vec<_>>() {
        [.., true, false, true] => !stem.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stems by NLTK 3.10.4.
    #[test]
    fn variations_of_nltk() {
        for (word, expected) in [
            ("dies", "die"),
            ("applies", "appli"),
            ("tied", "tie"),
            ("feed", "feed"),
            ("enjoy", "enjoy"),
            ("cry", "cri"),
            ("by", "by"),
            ("owed", "owe"),
            ("usefulli", "use"),
            ("geologi", "geolog"),
            ("logi", "logi"),
            ("100s", "100"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
