//! Which pairs make up each optimizer step, as a function of the seed alone.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Optimizer steps in one epoch of `pairs`; the last may be short.
pub fn steps_per_epoch(pairs: usize, pairs_per_step: usize) -> usize {
    pairs.div_ceil(pairs_per_step.max(1))
}

/// Hands out every pair once an epoch, in file order or shuffled anew for each epoch.
#[derive(Clone, Debug)]
pub struct Sampler {
    state: SamplerState,
    order: Vec<usize>,
}

/// All that a [`Sampler`] needs to go on where it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerState {
    /// Seed of the shuffles.
    pub seed: u64,
    /// Pairs in the data set.
    pub pairs: usize,
    /// Whether epochs are shuffled.
    pub shuffle: bool,
    /// Epochs handed out whole.
    pub epoch: u64,
    /// Pairs of the running epoch that were handed out, less than `pairs`.
    pub position: usize,
}

impl Sampler {
    /// Starts at the first epoch.
    pub fn new(pairs: usize, seed: u64, shuffle: bool) -> Self {
        Self::at(SamplerState { seed, pairs, shuffle, epoch: 0, position: 0 })
    }

    /// Goes on from `state`, which must be one of as many `pairs`.
    pub fn restore(state: SamplerState, pairs: usize) -> Result<Self, DataError> {
        if state.pairs != pairs {
            let reason = format!("it was saved with {} pairs, here are {pairs}", state.pairs);
            return Err(DataError::SamplerState { reason });
        }
        if state.position > 0 && state.position >= pairs {
            let reason = format!("its position {} lies past its {pairs} pairs", state.position);
            return Err(DataError::SamplerState { reason });
        }
        Ok(Self::at(state))
    }

    fn at(state: SamplerState) -> Self {
        let order = match state.shuffle {
            true => permutation(state.pairs, state.seed, Purpose::Epoch(state.epoch)),
            false => (0..state.pairs).collect(),
        };
        Self { state, order }
    }

    /// What to save to go on from here.
    pub fn state(&self) -> &SamplerState {
        &self.state
    }

    /// Indices of the next step's pairs: `pairs_per_step` of them, fewer where the epoch ends.
    ///
    /// Empty only without pairs, or if none are asked for.
    pub fn next_step(&mut self, pairs_per_step: usize) -> Vec<usize> {
        let rest = &self.order[self.state.position..];
        let step = rest[..pairs_per_step.min(rest.len())].to_vec();
        self.state.position += step.len();
        if self.state.position == self.state.pairs && !step.is_empty() {
            let next = SamplerState { epoch: self.state.epoch + 1, position: 0, ..self.state };
            *self = Self::at(next);
        }
        step
    }
}

/// Which `count` of `pairs` are held out under `seed`.
///
/// # Panics
/// If `count` is more than there are.
pub fn choose(pairs: usize, count: usize, seed: u64) -> Vec<bool> {
    let mut chosen = vec![false; pairs];
    for &index in &permutation(pairs, seed, Purpose::HeldOut)[..count] {
        chosen[index] = true;
    }
    chosen
}

/// What a permutation is for: each purpose has random numbers of its own.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The order of an epoch.
    Epoch(u64),
    /// The choice of held-out pairs.
    HeldOut,
}

/// A permutation of `0..n` that is the same on every platform and with every version of `rand`: only the
/// ChaCha8 stream itself, a published algorithm, is taken from a library.
pub(crate) fn permutation(n: usize, seed: u64, purpose: Purpose) -> Vec<usize> {
    let (kind, number) = match purpose {
        Purpose::Epoch(epoch) => (0u64, epoch),
        Purpose::HeldOut => (1, 0),
    };
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, kind, number]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut random = ChaCha8Rng::from_seed(key);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, below(last as u64 + 1, &mut random) as usize);
    }
    order
}

/// A uniform number in `0..bound`, by drawing again what would favour small numbers.
fn below(bound: u64, random: &mut ChaCha8Rng) -> u64 {
    let unbiased = u64::MAX - u64::MAX % bound;
    loop {
        let number = random.next_u64();
        if number < unbiased {
            return number % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_hands_out_every_pair_once() {
        for (pairs, per_step) in [(1, 1), (7, 3), (8, 4), (5, 9), (100, 1)] {
            for shuffle in [false, true] {
                let mut sampler = Sampler::new(pairs, 42, shuffle);
                for epoch in 0..3 {
                    let mut seen = vec![];
                    for step in 0..steps_per_epoch(pairs, per_step) {
                        assert_eq!(sampler.state().epoch, epoch);
                        let indices = sampler.next_step(per_step);
                        assert_eq!(indices.len(), per_step.min(pairs - step * per_step));
                        seen.extend(indices);
                    }
                    let in_order: Vec<_> = (0..pairs).collect();
                    assert_eq!(seen == in_order, !shuffle || pairs == 1, "{pairs} pairs");
                    seen.sort_unstable();
                    assert_eq!(seen, in_order);
                }
                assert_eq!((sampler.state().epoch, sampler.state().position), (3, 0));
            }
        }
    }

    #[test]
    fn a_sampler_restored_anywhere_goes_on_alike() {
        for shuffle in [false, true] {
            let mut sampler = Sampler::new(11, 7, shuffle);
            for _ in 0..12 {
                let json = serde_json::to_string(sampler.state()).expect("a state is plain data");
                let state = serde_json::from_str(&json).expect("written by us");
                let mut restored = Sampler::restore(state, 11).expect("same pairs");
                let mut original = sampler.clone();
                for _ in 0..10 {
                    assert_eq!(restored.next_step(3), original.next_step(3));
                    assert_eq!(restored.state(), original.state());
                }
                sampler.next_step(3);
            }
        }
    }

    #[test]
    fn states_of_other_data_are_refused() {
        let mut sampler = Sampler::new(10, 1, true);
        sampler.next_step(4);
        let state = sampler.state().clone();
        let past = SamplerState { position: 10, ..state.clone() };
        for (state, pairs, says) in
            [(state, 9, "saved with 10 pairs, here are 9"), (past, 10, "position 10 lies past its 10 pairs")]
        {
            let error = Sampler::restore(state, pairs).expect_err("does not fit").to_string();
            assert!(error.contains(says) && error.contains("hint:"), "{error}");
        }
    }

    #[test]
    fn epochs_and_seeds_shuffle_differently() {
        let order = |seed, epoch| permutation(50, seed, Purpose::Epoch(epoch));
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        assert_ne!(order(1, 0), permutation(50, 1, Purpose::HeldOut));
    }

    /// A saved run must go on in the same order after an update of the program. The figures are those of
    /// ChaCha8 and the shuffle written out in Python.
    #[test]
    fn the_order_never_changes() {
        assert_eq!(permutation(8, 42, Purpose::Epoch(0)), [3, 6, 0, 4, 5, 2, 1, 7]);
    }

    #[test]
    fn permutations_are_uniform() {
        let mut counts = [0usize; 6];
        for seed in 0..6000 {
            let order = permutation(3, seed, Purpose::Epoch(0));
            counts[order[0] * 2 + usize::from(order[1] > order[2])] += 1;
        }
        // 1,000 expected each, standard deviation 29.
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 150), "{counts:?}");
    }

    #[test]
    fn no_pairs_no_steps() {
        assert_eq!(Sampler::new(0, 1, true).next_step(4), Vec::<usize>::new());
        assert_eq!(steps_per_epoch(0, 4), 0);
    }
}
