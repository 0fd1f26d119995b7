//! Rows that stand for the same judgment: the last valid one counts, and different prompts under one key are a
//! conflict.

use std::{collections::HashMap, hash::Hash};

/// A row by what it judges.
pub struct Keyed<K, P, T> {
    /// What was judged, but for the prompt.
    pub key: K,
    /// What tells the prompt from others.
    pub prompt: P,
    /// Whether it holds a verdict that counts.
    pub valid: bool,
    /// The row.
    pub row: T,
}

/// One row for each key and prompt.
#[derive(Debug)]
pub struct Unrepeated<K, T> {
    /// The rows, by first appearance of key and prompt.
    pub rows: Vec<(K, T)>,
    /// Rows that others stand for.
    pub repeated: usize,
    /// Keys with several prompts, by first appearance.
    pub conflicts: Vec<K>,
}

/// Keeps for each key and prompt the last valid row, or the last where none is valid.
pub fn last_valid<K: Clone + Eq + Hash, P: PartialEq, T>(
    rows: impl IntoIterator<Item = Keyed<K, P, T>>,
) -> Unrepeated<K, T> {
    let mut places: HashMap<K, Vec<(P, usize)>> = HashMap::new();
    let mut kept: Vec<(K, T, bool)> = vec![];
    let mut conflicts = vec![];
    let mut repeated = 0;
    for Keyed { key, prompt, valid, row } in rows {
        let prompts = places.entry(key.clone()).or_default();
        match prompts.iter().find(|(known, _)| *known == prompt) {
            Some(&(_, place)) => {
                repeated += 1;
                if valid || !kept[place].2 {
                    kept[place] = (key, row, valid);
                }
            }
            None => {
                prompts.push((prompt, kept.len()));
                if prompts.len() == 2 {
                    conflicts.push(key.clone());
                }
                kept.push((key, row, valid));
            }
        }
    }
    Unrepeated { rows: kept.into_iter().map(|(key, row, _)| (key, row)).collect(), repeated, conflicts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_valid_row_counts() {
        let rows = [
            (1, "p", true, 'a'),
            (2, "p", false, 'b'),
            (1, "p", true, 'c'),
            (1, "p", false, 'd'),
            (2, "p", false, 'e'),
            (3, "p", true, 'f'),
            (3, "q", true, 'g'),
            (3, "r", true, 'h'),
        ];
        let unrepeated = last_valid(rows.map(|(key, prompt, valid, row)| Keyed { key, prompt, valid, row }));
        assert_eq!(unrepeated.rows, [(1, 'c'), (2, 'e'), (3, 'f'), (3, 'g'), (3, 'h')]);
        assert_eq!((unrepeated.repeated, unrepeated.conflicts), (3, vec![3]));
    }
}
