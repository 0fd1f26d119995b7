//! Judges whose results are known beforehand: they read the messages and reply by a simple rule.
//!
//! A run with one of them proves prompts, order, parsing and aggregation at once (EVALUATION §8).

use std::collections::HashMap;

use crate::{judge::Message, sha256::sha256_hex};

/// How such a judge replies.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    /// This rating, as written.
    Fixed(String),
    /// The answer shown first.
    AlwaysA,
    /// The answer shown second.
    AlwaysB,
    /// Neither.
    AlwaysTie,
    /// The answer shown first, strongly.
    FirstStrong,
    /// The answer of more Unicode scalars.
    Longer,
    /// Drawn from the hash of the user's message.
    Hash,
    /// The longer answer with this probability, else the shorter, drawn from the hash of seed and message.
    Noisy {
        /// Probability of the longer answer.
        longer: f64,
        /// Makes draws differ between judges.
        seed: u64,
    },
}

/// What the messages ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Rating,
    Letter,
    Label,
}

/// Which answer is better: the first, the second, or neither.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    A,
    B,
    Neither,
}

const LABELS: [&str; 5] = ["A>>B", "A>B", "A=B", "B>A", "B>>A"];

impl Behaviour {
    /// Reads `fixed:R`, `always-a`, `always-b`, `always-tie`, `first-strong`, `longer`, `hash` or `noisy:P:SEED`.
    ///
    /// # Errors
    /// If it is none of these; the message lists them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            ("always-a", None) => Ok(Self::AlwaysA),
            ("always-b", None) => Ok(Self::AlwaysB),
            ("always-tie", None) => Ok(Self::AlwaysTie),
            ("first-strong", None) => Ok(Self::FirstStrong),
            ("longer", None) => Ok(Self::Longer),
            ("hash", None) => Ok(Self::Hash),
            ("fixed", Some(rating)) if is_number(rating) => Ok(Self::Fixed(rating.to_owned())),
            ("fixed", _) => Err(format!("{text}: fixed takes a rating\nhint: fixed:7")),
            ("noisy", Some(argument)) => {
                let parts = argument.split_once(':').and_then(|(probability, seed)| {
                    Some((probability.parse::<f64>().ok()?, seed.parse().ok()?))
                });
                match parts {
                    Some((longer, seed)) if (0.0..=1.0).contains(&longer) => Ok(Self::Noisy { longer, seed }),
                    _ => Err(format!(
                        "{text}: noisy takes a probability from 0 to 1 and a whole seed\nhint: noisy:0.8:1"
                    )),
                }
            }
            ("noisy", None) => {
                Err(format!("{text}: noisy takes a probability and a seed\nhint: noisy:0.8:1"))
            }
            _ => Err(format!(
                "{text}: no such behaviour\nhint: one of fixed:R, always-a, always-b, always-tie, first-strong, \
                 longer, hash, noisy:P:SEED"
            )),
        }
    }

    /// The text this judge replies with.
    ///
    /// The kind of verdict is read from the system message, or where that names none, from the user's.
    ///
    /// # Errors
    /// If there is no user's message, a choice is asked of a call that wants a rating, or the two answers cannot
    /// be found.
    pub fn reply(&self, messages: &[Message]) -> Result<String, String> {
        let user = messages
            .iter()
            .find(|message| message.role == "user")
            .ok_or("the request has no user message")?
            .content
            .as_str();
        if let Self::Fixed(rating) = self {
            return Ok(format!("Rating: [[{rating}]]"));
        }
        let asked = asked(messages, user);
        let better = match self {
            Self::Hash => return Ok(by_hash(asked, user)),
            _ if asked == Verdict::Rating => {
                return Err(format!("{} chooses between two answers and cannot rate one", self.name()));
            }
            Self::AlwaysA | Self::FirstStrong => Better::A,
            Self::AlwaysB => Better::B,
            Self::Noisy { longer, seed } if draw(*seed, user) >= *longer => match longer_answer(user)? {
                Better::A => Better::B,
                Better::B => Better::A,
                Better::Neither => Better::Neither,
            },
            Self::Longer | Self::Noisy { .. } => longer_answer(user)?,
            Self::AlwaysTie | Self::Fixed(_) => Better::Neither,
        };
        Ok(match (asked, better) {
            (Verdict::Label, Better::A) if *self == Self::FirstStrong => label(0),
            (Verdict::Label, Better::A) => label(1),
            (Verdict::Label, Better::Neither) => label(2),
            (Verdict::Label, Better::B) => label(3),
            (_, Better::A) => letter(0),
            (_, Better::B) => letter(1),
            (_, Better::Neither) => letter(2),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Fixed(_) => "fixed",
            Self::AlwaysA => "always-a",
            Self::AlwaysB => "always-b",
            Self::AlwaysTie => "always-tie",
            Self::FirstStrong => "first-strong",
            Self::Longer => "longer",
            Self::Hash => "hash",
            Self::Noisy { .. } => "noisy",
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    !whole.is_empty() && digits(whole) && digits(fraction)
}

fn label(number: usize) -> String {
    format!("My final verdict is: [[{}]]", LABELS[number])
}

fn letter(number: usize) -> String {
    format!("My final verdict is: [[{}]]", ["A", "B", "C"][number])
}

fn by_hash(asked: Verdict, user: &str) -> String {
    let number = u32::from_str_radix(&sha256_hex(user)[..8], 16).expect("hexadecimal digits") as usize;
    match asked {
        Verdict::Rating => format!("Rating: [[{}]]", 1 + number % 10),
        Verdict::Letter => letter(number % 3),
        Verdict::Label => label(number % 5),
    }
}

/// From 0 up to 1, by seed and message.
fn draw(seed: u64, user: &str) -> f64 {
    let digest = sha256_hex(&format!("{seed}\0{user}"));
    // 13 digits are 52 bits, all of which a double holds.
    u64::from_str_radix(&digest[..13], 16).expect("hexadecimal digits") as f64 / (1u64 << 52) as f64
}

/// Answers and questions may quote verdicts, so the system message is asked first.
fn asked(messages: &[Message], user: &str) -> Verdict {
    let system = messages.iter().find(|message| message.role == "system");
    let named = |text: &str| {
        if text.contains("[[rating]]") || text.contains("Rating: [[") {
            Some(Verdict::Rating)
        } else if LABELS.iter().any(|label| text.contains(&format!("[[{label}]]"))) {
            Some(Verdict::Label)
        } else if text.contains("[[A]]") {
            Some(Verdict::Letter)
        } else {
            None
        }
    };
    system
        .and_then(|message| named(&message.content))
        .or_else(|| named(user))
        .unwrap_or(if sides(user).is_ok() { Verdict::Label } else { Verdict::Rating })
}

fn longer_answer(user: &str) -> Result<Better, String> {
    let (a, b) = sides(user)?;
    Ok(match a.chars().count().cmp(&b.chars().count()) {
        std::cmp::Ordering::Greater => Better::A,
        std::cmp::Ordering::Less => Better::B,
        std::cmp::Ordering::Equal => Better::Neither,
    })
}

/// The texts of the two sides.
///
/// The wording of the template is the user's, so its marks are known by their shape: a line before each side and
/// a line after it, the same for both but for the letter A or B, and nothing but blank lines between the end of A
/// and the beginning of B.
pub(crate) fn sides(user: &str) -> Result<(&str, &str), String> {
    let mut lines = vec![];
    let mut start = 0;
    for line in user.split('\n') {
        lines.push((start, line));
        start += line.len() + 1;
    }
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, (_, line)) in lines.iter().enumerate() {
        places.entry(line).or_default().push(index);
    }
    let places_of = |line: &str| places.get(line).map_or(&[][..], Vec::as_slice);
    let mut found = None;
    for (end_a, (_, line)) in lines.iter().enumerate() {
        let Some(end_b_line) = renamed(line, 'A', 'B') else { continue };
        let Some(begin_b) = (end_a + 1..lines.len()).find(|index| !lines[*index].1.trim().is_empty()) else {
            break;
        };
        let Some(begin_a_line) = renamed(lines[begin_b].1, 'B', 'A') else { continue };
        let begins: Vec<_> =
            places_of(&begin_a_line).iter().copied().filter(|index| *index < end_a).collect();
        let ends: Vec<_> = places_of(&end_b_line).iter().copied().filter(|index| *index > begin_b).collect();
        if begins.is_empty() || ends.is_empty() {
            continue;
        }
        if found.is_some() || begins.len() > 1 || ends.len() > 1 {
            return Err("the marks around the two answers stand in the message more than once".to_owned());
        }
        found = Some((between(user, &lines, begins[0], end_a), between(user, &lines, begin_b, ends[0])));
    }
    found.ok_or_else(|| {
        "the two answers cannot be told apart in the message\nhint: the template must have a line before and a \
         line after each answer, the same but for the letter A or B"
            .to_owned()
    })
}

/// What stands between two lines.
fn between<'a>(text: &'a str, lines: &[(usize, &str)], first: usize, last: usize) -> &'a str {
    let start = lines[first + 1].0;
    &text[start..(lines[last].0 - 1).max(start)]
}

/// The line with every `from` that stands alone replaced by `to`; `None` if there is none.
fn renamed(line: &str, from: char, to: char) -> Option<String> {
    let letters: Vec<char> = line.chars().collect();
    let is_word = |index: Option<usize>| {
        index.and_then(|index| letters.get(index)).is_some_and(|letter| letter.is_alphanumeric())
    };
    let mut changed = false;
    let renamed = letters
        .iter()
        .enumerate()
        .map(|(index, letter)| {
            if *letter == from && !is_word(index.checked_sub(1)) && !is_word(Some(index + 1)) {
                changed = true;
                to
            } else {
                *letter
            }
        })
        .collect();
    changed.then_some(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELLED: &str = "Say [[A>>B]], [[A>B]], [[A=B]], [[B>A]] or [[B>>A]].";

    fn ask(system: &str, user: &str) -> [Message; 2] {
        [Message::new("system", system), Message::new("user", user)]
    }

    fn game(a: &str, b: &str) -> String {
        format!("Which?\n\n<Begin A's text>\n{a}\n<End A's text>\n\n<Begin B's text>\n{b}\n<End B's text>")
    }

    #[test]
    fn names_and_arguments() {
        assert_eq!(Behaviour::parse("fixed:7.5"), Ok(Behaviour::Fixed("7.5".into())));
        assert_eq!(Behaviour::parse("noisy:0.8:42"), Ok(Behaviour::Noisy { longer: 0.8, seed: 42 }));
        for wrong in ["fixed", "fixed:x", "fixed:.", "noisy:2:1", "noisy:0.5", "always-c", "hash:1", ""] {
            assert!(Behaviour::parse(wrong).unwrap_err().contains("hint: "), "{wrong}");
        }
    }

    #[test]
    fn the_longer_answer_wins_whichever_is_shown_first() {
        let reply = |a: &str, b: &str| Behaviour::Longer.reply(&ask(LABELLED, &game(a, b))).unwrap();
        assert!(reply("two\nlines", "one").ends_with("[[A>B]]"));
        assert!(reply("one", "two\nlines").ends_with("[[B>A]]"));
        // Three scalars each; six bytes against three.
        assert!(reply("äöü", "abc").ends_with("[[A=B]]"));
        assert!(reply("", "").ends_with("[[A=B]]"));
    }

    #[test]
    fn text_after_the_last_mark_is_no_answer() {
        let user = game("longer", "short") + "\n\nNow choose with care, and at some length.";
        assert!(Behaviour::Longer.reply(&ask(LABELLED, &user)).unwrap().ends_with("[[A>B]]"));
    }

    #[test]
    fn answers_that_quote_the_marks_are_refused() {
        let quoting = game("x", "y");
        let error = Behaviour::Longer.reply(&ask(LABELLED, &game(&quoting, "z"))).unwrap_err();
        assert!(error.contains("more than once"));
        assert!(Behaviour::Longer.reply(&ask(LABELLED, "A or B?")).unwrap_err().contains("told apart"));
    }

    #[test]
    fn the_kind_of_verdict_is_read_from_the_system_message_first() {
        let user = game("I say [[A>B]]", "x");
        assert_eq!(
            Behaviour::AlwaysA.reply(&ask("Say [[A]], [[B]] or [[C]].", &user)).unwrap(),
            "My final verdict is: [[A]]"
        );
        assert_eq!(
            Behaviour::FirstStrong.reply(&ask(LABELLED, &user)).unwrap(),
            "My final verdict is: [[A>>B]]"
        );
        assert!(Behaviour::AlwaysB.reply(&ask("", "Say \"[[rating]]\". [[A]]")).is_err());
        let rating = Behaviour::Hash.reply(&ask("You help.", "abc")).unwrap();
        // sha256("abc") begins with ba7816bf.
        assert_eq!(rating, format!("Rating: [[{}]]", 1 + 0xba78_16bf_u32 % 10));
    }

    #[test]
    fn noise_has_its_probability_and_its_seed() {
        let wins = |longer: f64, seed: u64| -> Vec<bool> {
            let judge = Behaviour::Noisy { longer, seed };
            (0..2000)
                .map(|index| {
                    let user = format!("{index} {}", game("long", "x"));
                    judge.reply(&ask(LABELLED, &user)).unwrap().ends_with("[[A>B]]")
                })
                .collect()
        };
        let share = |wins: &[bool]| wins.iter().filter(|win| **win).count() as f64 / wins.len() as f64;
        assert!((share(&wins(0.8, 1)) - 0.8).abs() < 0.04);
        assert_eq!((share(&wins(1.0, 1)), share(&wins(0.0, 1))), (1.0, 0.0));
        assert_eq!(wins(0.5, 1), wins(0.5, 1));
        assert_ne!(wins(0.5, 1), wins(0.5, 2));
    }
}
