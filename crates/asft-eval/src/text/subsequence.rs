//! Longest common subsequences, 64 reference tokens at a time.
//!
//! Of the usual table only its steps along the reference are kept, one bit each: after a hypothesis token, a bit is
//! clear where the length grows by one at that reference token. A row follows from the one before by an addition
//! (Hyyrö 2004), so that a step handles 64 cells and the whole table of two answers takes few kilobytes.

/// Finds longest common subsequences of texts whose token numbers lie below a bound.
pub(super) struct Subsequences {
    /// Where each token stands in the block at hand; all zero between uses.
    places: Vec<u64>,
}

impl Subsequences {
    /// For token numbers below `tokens`.
    pub(super) fn new(tokens: usize) -> Self {
        Self { places: vec![0; tokens] }
    }

    /// How long the longest are.
    pub(super) fn length(&mut self, reference: &[u32], hypothesis: &[u32]) -> usize {
        self.table(reference, hypothesis, |_| ())
    }

    /// Reference positions, last first, of the one that rouge-score finds: from the end of both, equal tokens are
    /// taken; else the hypothesis steps back if that loses nothing while a step in the reference would; else the
    /// reference steps back.
    pub(super) fn positions(&mut self, reference: &[u32], hypothesis: &[u32]) -> Vec<usize> {
        let mut rows = vec![];
        self.table(reference, hypothesis, |flat| rows.push(flat));
        let (mut i, mut j, mut positions) = (reference.len(), hypothesis.len(), vec![]);
        while i > 0 && j > 0 {
            let (block, bit) = ((i - 1) / 64, (i - 1) % 64);
            if reference[i - 1] == hypothesis[j - 1] {
                positions.push(i - 1);
                (i, j) = (i - 1, j - 1);
            } else if rows[block * hypothesis.len() + j - 1] >> bit & 1 == 0 {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        positions
    }

    /// The length; `row` sees block after block the bits after each hypothesis token.
    fn table(&mut self, reference: &[u32], hypothesis: &[u32], mut row: impl FnMut(u64)) -> usize {
        let mut carries = vec![false; hypothesis.len()];
        let mut length = 0;
        for block in reference.chunks(64) {
            for (bit, &token) in block.iter().enumerate() {
                self.places[token as usize] |= 1 << bit;
            }
            // Bits past the end of the block have no matches and stay set.
            let mut flat = u64::MAX;
            for (&token, carry) in hypothesis.iter().zip(&mut carries) {
                let matches = flat & self.places[token as usize];
                let sum;
                (sum, *carry) = flat.carrying_add(matches, *carry);
                flat = sum | (flat & !matches);
                row(flat);
            }
            length += flat.count_zeros() as usize;
            block.iter().for_each(|&token| self.places[token as usize] = 0);
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// The table cell by cell, and the walk back over it.
    fn by_table(reference: &[u32], hypothesis: &[u32]) -> (usize, Vec<usize>) {
        let mut cells = vec![vec![0; hypothesis.len() + 1]; reference.len() + 1];
        for (i, token) in reference.iter().enumerate() {
            for (j, other) in hypothesis.iter().enumerate() {
                cells[i + 1][j + 1] =
                    if token == other { cells[i][j] + 1 } else { cells[i][j + 1].max(cells[i + 1][j]) };
            }
        }
        let (mut i, mut j, mut positions) = (reference.len(), hypothesis.len(), vec![]);
        while i > 0 && j > 0 {
            if reference[i - 1] == hypothesis[j - 1] {
                positions.push(i - 1);
                (i, j) = (i - 1, j - 1);
            } else if cells[i][j - 1] > cells[i - 1][j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        (cells[reference.len()][hypothesis.len()], positions)
    }

    #[test]
    fn blocks_of_bits_agree_with_the_table() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut found = Subsequences::new(9);
        for (reference, hypothesis) in [(0, 3), (3, 0), (1, 1), (63, 64), (64, 65), (65, 200), (300, 130)] {
            for tokens in [1, 2, 3, 9] {
                let mut text =
                    |length| -> Vec<u32> { (0..length).map(|_| random.random_range(0..tokens)).collect() };
                let (reference, hypothesis) = (text(reference), text(hypothesis));
                let got = (found.length(&reference, &hypothesis), found.positions(&reference, &hypothesis));
                assert_eq!(got, by_table(&reference, &hypothesis), "{reference:?} {hypothesis:?}");
            }
        }
    }
}
