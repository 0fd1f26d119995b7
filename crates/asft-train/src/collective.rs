//! Several processes that train one model: what they exchange, whatever carries it.
//!
//! Each process is a rank; ranks hold the same weights, take their shares of the pairs of each step and add up their
//! gradients. [`Alone`] is one process, `Mpi` (cargo feature `mpi`) as many as `mpirun` starts; NCCL between GPUs
//! would be another implementation of [`Collective`].

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, de::DeserializeOwned};

/// The processes of a run as one of them sees them. All call the same methods in the same order.
pub trait Collective {
    /// Number of this process, from 0. Rank 0 alone writes and tells what happens.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Begins to add up the ranks' values, in the order of the ranks in f32: the same bits on every rank and in every run.
    /// All ranks give equally many. What was begun first is done first.
    fn all_reduce(&self, values: Vec<f32>) -> Sums<'_>;

    /// What each rank gives, by rank; less than 2 GiB each.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError>;

    /// Ends what was begun, together with all others. Nothing may follow.
    fn leave(&self) -> Result<(), CollectiveError>;

    /// Seconds spent in these methods and waiting for sums so far, waiting for other ranks included.
    fn seconds(&self) -> f64;
}

/// Sums that are being made; to call it is to wait for them.
pub type Sums<'a> = Box<dyn FnOnce() -> Result<Vec<f32>, CollectiveError> + 'a>;

/// Why the ranks cannot go on together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectiveError {
    /// Ranks that did not answer in time.
    #[error(
        "rank {rank} has heard nothing of {} for {seconds} s (train.collective_timeout) and stops\nhint: look at that process and its machine; --resume goes on from the newest checkpoint",
        names(silent)
    )]
    Silent {
        /// The rank that waited.
        rank: usize,
        /// Those that it waited for.
        silent: Vec<usize>,
        /// How long.
        seconds: u64,
    },
    /// Another rank failed, and with it all.
    #[error("rank {rank}: {message}")]
    Failed {
        /// The first that failed.
        rank: usize,
        /// What it said.
        message: String,
    },
    /// Ranks that were not started like rank 0.
    #[error(
        "{} cannot train with rank 0: {what} is {first} on rank 0 and {other} on rank {}\nhint: start every rank with the same program, configuration, model and data",
        names(ranks), ranks[0]
    )]
    Different {
        /// The ranks that differ from rank 0 in it.
        ranks: Vec<usize>,
        /// What differs, such as a key of the configuration.
        what: String,
        /// On rank 0.
        first: String,
        /// On the first that differs.
        other: String,
    },
    /// A message that this program did not send.
    #[error(
        "rank {rank} sent what this program cannot read\nhint: start the same build of asft on every machine"
    )]
    Unreadable {
        /// The sender.
        rank: usize,
    },
    /// The library that carries messages stopped.
    #[error("MPI does not work here: {what}")]
    Broken {
        /// Why.
        what: String,
    },
}

impl CollectiveError {
    /// Whether every rank knows of it, so that one of them can speak for all.
    pub fn is_common(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Different { .. })
    }
}

fn names(ranks: &[usize]) -> String {
    let numbers: Vec<String> = ranks.iter().map(usize::to_string).collect();
    match numbers.as_slice() {
        [one] => format!("rank {one}"),
        many => format!("ranks {}", many.join(", ")),
    }
}

/// A single process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, values: Vec<f32>) -> Sums<'_> {
        Box::new(|| Ok(values))
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        Ok(vec![bytes.to_vec()])
    }

    fn leave(&self) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

/// Names and values of what must be the same on every rank.
pub type Facts = BTreeMap<String, String>;

impl dyn Collective + '_ {
    /// What each rank has, by rank. Where one has failed, all fail: it with its own error, the others with what it said.
    /// Numbers must be finite.
    pub fn share<T, E>(&self, own: Result<T, E>) -> Result<Vec<T>, E>
    where
        T: Serialize + DeserializeOwned,
        E: fmt::Display + From<CollectiveError>,
    {
        if self.size() == 1 {
            return own.map(|own| vec![own]);
        }
        let told = own.as_ref().map_err(ToString::to_string);
        let bytes = serde_json::to_vec(&told).expect("what ranks share has a JSON form");
        let all = self.all_gather(&bytes)?;
        own?;
        let read = |(rank, bytes): (usize, Vec<u8>)| {
            let told: Result<T, String> =
                serde_json::from_slice(&bytes).map_err(|_| CollectiveError::Unreadable { rank })?;
            told.map_err(|message| CollectiveError::Failed { rank, message }.into())
        };
        all.into_iter().enumerate().map(read).collect()
    }

    /// What rank 0 has.
    pub fn first<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<T, CollectiveError> {
        // Others have nothing to say, so that they need not send it.
        let own = (self.rank() == 0).then_some(own);
        let mut all = self.share::<_, CollectiveError>(Ok(own))?;
        all.swap_remove(0).ok_or(CollectiveError::Unreadable { rank: 0 })
    }

    /// Whether it is true of any rank.
    pub fn any(&self, own: bool) -> Result<bool, CollectiveError> {
        Ok(self.share::<_, CollectiveError>(Ok(own))?.contains(&true))
    }

    /// Passes on what this rank has, if every rank has it and all have the same facts.
    pub fn agree<T, E>(&self, own: Result<T, E>, facts: impl FnOnce(&T) -> Facts) -> Result<T, E>
    where
        E: fmt::Display + From<CollectiveError>,
    {
        if self.size() == 1 {
            return own;
        }
        let (own, facts) = match own {
            Ok(own) => {
                let facts = facts(&own);
                (Some(own), Ok(facts))
            }
            Err(error) => (None, Err(error)),
        };
        let all = self.share(facts)?;
        match different(&all) {
            None => Ok(own.expect("it was shared")),
            Some(difference) => Err(difference.into()),
        }
    }
}

/// The first fact in which a rank differs from rank 0, and all ranks that differ in it.
fn different(all: &[Facts]) -> Option<CollectiveError> {
    let (first, others) = all.split_first()?;
    let name = others.iter().find_map(|facts| {
        first.keys().chain(facts.keys()).find(|name| first.get(*name) != facts.get(*name))
    })?;
    let value = |facts: &Facts| facts.get(name).cloned().unwrap_or_else(|| "absent".to_owned());
    let ranks: Vec<usize> = (1..all.len()).filter(|&rank| all[rank].get(name) != first.get(name)).collect();
    let (first, other) = (value(first), value(&all[*ranks.first()?]));
    Some(CollectiveError::Different { ranks, what: name.clone(), first, other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranks_that_differ_and_what_differs_are_named() {
        let facts = |rate: &str| Facts::from([("a".into(), "1".into()), ("rate".into(), rate.into())]);
        assert_eq!(different(&[facts("1"), facts("1")]), None);
        assert_eq!(different(&[facts("1")]), None);
        let all = [facts("1"), facts("2"), facts("1"), facts("3")];
        let message = different(&all).unwrap().to_string();
        assert!(
            message.starts_with("ranks 1, 3 cannot train with rank 0: rate is 1 on rank 0 and 2 on rank 1\n"),
            "{message}"
        );
        let more = Facts::from([("b".into(), "2".into())]).into_iter().chain(facts("1")).collect();
        let message = different(&[facts("1"), more]).unwrap().to_string();
        assert!(message.contains("b is absent on rank 0 and 2 on rank 1"), "{message}");
    }

    /// Rank 0 of two, the other of which says `other`.
    struct Beside(&'static str);

    impl Collective for Beside {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            2
        }

        fn all_reduce(&self, values: Vec<f32>) -> Sums<'_> {
            Box::new(|| Ok(values))
        }

        fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
            Ok(vec![bytes.to_vec(), self.0.into()])
        }

        fn leave(&self) -> Result<(), CollectiveError> {
            Ok(())
        }

        fn seconds(&self) -> f64 {
            0.0
        }
    }

    #[test]
    fn where_one_rank_fails_all_fail() {
        let share = |other, own: Result<u32, CollectiveError>| -> Result<Vec<u32>, CollectiveError> {
            (&Beside(other) as &dyn Collective).share(own)
        };
        let failed = |rank, message: &str| CollectiveError::Failed { rank, message: message.into() };
        assert_eq!(share(r#"{"Ok":2}"#, Ok(1)), Ok(vec![1, 2]));
        assert_eq!(share(r#"{"Err":"no file"}"#, Ok(1)), Err(failed(1, "no file")));
        assert_eq!(share(r#"{"Ok":2}"#, Err(failed(7, "own"))), Err(failed(7, "own")));
        assert_eq!(share(r#"{"Ok":"two"}"#, Ok(1)), Err(CollectiveError::Unreadable { rank: 1 }));
    }
}
