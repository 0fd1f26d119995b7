//! Random draws equal to those of numpy's legacy generator.
//!
//! Arena-Hard's published intervals are percentiles over these very draws.

const N: usize = 624;
const M: usize = 397;

/// Mersenne Twister (MT19937) with the initialisation of `numpy.random.seed(integer)`.
#[derive(Clone)]
pub struct LegacyRandom {
    state: [u32; N],
    used: usize,
}

impl LegacyRandom {
    /// Starts the stream of a seed.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for index in 1..N {
            let previous = state[index - 1];
            state[index] =
                (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
        }
        Self { state, used: N }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == N {
            self.twist();
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for index in 0..N {
            let bits = (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % N] & 0x7fff_ffff);
            let odd = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + M) % N] ^ (bits >> 1) ^ odd;
        }
        self.used = 0;
    }

    /// A whole number below `count`, by masking and rejecting; nothing is drawn for a count of 1.
    ///
    /// # Panics
    /// If `count` is 0 or does not fit 32 bits.
    pub fn below(&mut self, count: usize) -> usize {
        let last = u32::try_from(count.checked_sub(1).expect("something to draw")).expect("32 bits");
        if last == 0 {
            return 0;
        }
        let mask = u32::MAX >> last.leading_zeros();
        loop {
            let drawn = self.next_u32() & mask;
            if drawn <= last {
                return drawn as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_numpy() {
        // numpy.random.seed(42); numpy.random.randint(0, 1000, 10)
        let mut random = LegacyRandom::new(42);
        let draws: Vec<_> = (0..10).map(|_| random.below(1000)).collect();
        assert_eq!(draws, [102, 435, 860, 270, 106, 71, 700, 20, 614, 121]);
    }

    #[test]
    fn ten_thousandth_output_of_the_reference_generator() {
        // The C++ standard fixes it for the default seed 5489.
        let mut random = LegacyRandom::new(5489);
        assert_eq!((0..10_000).map(|_| random.next_u32()).last(), Some(4_123_659_995));
    }

    #[test]
    fn one_possible_value_uses_no_output() {
        let mut random = LegacyRandom::new(42);
        assert_eq!(random.below(1), 0);
        assert_eq!(random.below(1000), 102);
    }
}
