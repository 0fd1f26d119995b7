//! The verdict in a judge's reply, and what it is worth.

use regex::Regex;

/// Which answer is better, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `A>>B`.
    MuchA,
    /// `A>B`.
    A,
    /// `A=B`.
    Tie,
    /// `B>A`.
    B,
    /// `B>>A`.
    MuchB,
}

impl Label {
    /// Reads one of the five labels.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "A>>B" => Self::MuchA,
            "A>B" => Self::A,
            "A=B" => Self::Tie,
            "B>A" => Self::B,
            "B>>A" => Self::MuchB,
            _ => return None,
        })
    }

    /// −2 to 2, as the second answer shown sees it.
    fn for_b(self) -> i8 {
        match self {
            Self::MuchA => -2,
            Self::A => -1,
            Self::Tie => 0,
            Self::B => 1,
            Self::MuchB => 2,
        }
    }

    /// −2 to 2, as the model sees it, which is shown second in game 1 and first in game 2.
    #[must_use]
    pub fn for_model(self, game: u8) -> i8 {
        if game == 1 { self.for_b() } else { -self.for_b() }
    }

    /// Points of the model: 0, ½ or 1.
    #[must_use]
    pub fn points(self, game: u8) -> f64 {
        f64::from(1 + self.for_model(game).signum()) / 2.0
    }

    /// How many rows the game counts as.
    #[must_use]
    pub fn weight(self) -> u32 {
        if self.for_b().abs() == 2 { 3 } else { 1 }
    }
}

/// How often the answer shown first won, and the one shown second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByPlace {
    first: usize,
    second: usize,
}

impl ByPlace {
    pub(crate) fn of(labels: impl IntoIterator<Item = Label>) -> Self {
        labels.into_iter().fold(Self::default(), |counts, label| match label.for_b().signum() {
            -1 => Self { first: counts.first + 1, ..counts },
            1 => Self { second: counts.second + 1, ..counts },
            _ => counts,
        })
    }

    /// Games that were no ties.
    pub(crate) fn decisive(self) -> usize {
        self.first + self.second
    }

    /// The share of them that the first won.
    pub(crate) fn first_share(self) -> Option<f64> {
        (self.decisive() > 0).then(|| self.first as f64 / self.decisive() as f64)
    }

    /// (first − second)/decisive.
    pub(crate) fn bias(self) -> Option<f64> {
        let lead = self.first as f64 - self.second as f64;
        (self.decisive() > 0).then(|| lead / self.decisive() as f64)
    }
}

/// What a text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One label, or the same several times; not always one of the five.
    One(String),
    /// None.
    None,
    /// Several that differ.
    Several,
}

/// Finds labels.
#[derive(Clone, Debug)]
pub struct VerdictPattern(Regex);

impl Default for VerdictPattern {
    fn default() -> Self {
        Self(Regex::new(r"\[\[([AB<>=]+)\]\]").expect("valid"))
    }
}

impl VerdictPattern {
    /// A pattern whose one group is the label.
    ///
    /// # Errors
    /// If it is none.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
        match regex.captures_len() {
            2 => Ok(Self(regex)),
            groups => Err(format!("{} groups, where the label is the one group", groups - 1)),
        }
    }

    /// Reads all that was said so far.
    #[must_use]
    pub fn read(&self, text: &str) -> Verdict {
        let mut found: Option<&str> = None;
        for captures in self.0.captures_iter(text) {
            let label = captures.get(1).map_or("", |label| label.as_str());
            match found {
                _ if label.is_empty() => {}
                Some(other) if other != label => return Verdict::Several,
                _ => found = Some(label),
            }
        }
        found.map_or(Verdict::None, |label| Verdict::One(label.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_distinct_label_is_a_verdict() {
        let pattern = VerdictPattern::default();
        assert_eq!(pattern.read("[[A>B]] so [[A>B]]"), Verdict::One("A>B".to_owned()));
        assert_eq!(pattern.read("[[A>B]] or [[B>A]]"), Verdict::Several);
        assert_eq!(pattern.read("[A>B] [[]] [[C]]"), Verdict::None);
        assert_eq!(pattern.read("[[A<B]]"), Verdict::One("A<B".to_owned()));
        let optional = VerdictPattern::new(r"\[\[([AB>]*)\]\]").unwrap();
        assert_eq!(optional.read("[[]] [[B>A]]"), Verdict::One("B>A".to_owned()));
    }

    #[test]
    fn a_pattern_has_one_group() {
        assert!(VerdictPattern::new(r"\[\[A\]\]").unwrap_err().contains("0 groups"));
        assert!(VerdictPattern::new("(").is_err());
    }

    #[test]
    fn games_are_mirrored() {
        assert_eq!(Label::parse("B>>A").map(|label| label.for_model(1)), Some(2));
        assert_eq!(Label::parse("B>>A").map(|label| label.for_model(2)), Some(-2));
        assert_eq!(Label::parse("B<<A"), None);
        assert_eq!((Label::MuchA.points(1), Label::MuchA.points(2), Label::Tie.points(1)), (0.0, 1.0, 0.5));
        assert_eq!((Label::MuchB.weight(), Label::B.weight(), Label::Tie.weight()), (3, 1, 1));
        let places = ByPlace::of([Label::MuchA, Label::A, Label::B, Label::Tie]);
        assert_eq!((places.decisive(), places.bias()), (3, Some(1.0 / 3.0)));
        assert_eq!(ByPlace::of([Label::Tie]).bias(), None);
    }
}
