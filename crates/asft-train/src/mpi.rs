//! [`Collective`] over MPI.
//!
//! A thread of its own speaks to the library, with operations that do not block, and looks again and again which of
//! them are done. The caller waits for that thread, but no longer than the time-out: a message to or from a rank that
//! stalls can neither arrive nor be taken back, so the thread keeps its buffers until the process ends.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use mpi::{
    Threading,
    environment::Universe,
    request::{self, LocalScope, Request},
    topology::SimpleCommunicator,
    traits::{Communicator, Destination, Equivalence, Source},
};

use crate::collective::{Collective, CollectiveError, Sums};

/// Values that are reduced at a time: what they take beside the values themselves stays small.
const BLOCK: usize = 1 << 20;
const TAG: i32 = 0;
/// How long the thread looks for messages without a pause; waiting for a rank that still computes takes longer.
const BUSY: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_micros(200);
/// How often the caller looks whether messages still come.
const WAIT: Duration = Duration::from_millis(100);

/// One of several processes that `mpirun` started.
#[derive(Debug)]
pub struct Mpi {
    rank: usize,
    size: usize,
    timeout: Duration,
    work: Sender<Work>,
    watch: Arc<Watch>,
    seconds: Cell<f64>,
}

type Work = Box<dyn FnOnce(&Link) + Send>;

/// How many of this run's processes are on this machine, which share its memory.
pub fn processes_here() -> u64 {
    let told = std::env::var("OMPI_COMM_WORLD_LOCAL_SIZE").ok();
    told.and_then(|size| size.parse().ok()).unwrap_or(1).max(1)
}

impl Mpi {
    /// Joins the others; once in a process. A rank that is silent for `timeout` is given up.
    pub fn start(timeout: Duration) -> Result<Self, CollectiveError> {
        let (work, orders) = mpsc::channel::<Work>();
        let watch = Arc::new(Watch::default());
        let watched = watch.clone();
        let (ready, started) = mpsc::channel();
        let speak = move || {
            let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else { return };
            let world = universe.world();
            let _ = ready.send((world.rank() as usize, world.size() as usize));
            let link = Link { world, watch: watched, universe: RefCell::new(Some(universe)) };
            orders.into_iter().for_each(|work| work(&link));
            // To leave MPI means to wait for all others; whoever stops in the middle must not.
            std::mem::forget(link.universe.take());
        };
        let broken = |what: String| CollectiveError::Broken { what };
        thread::Builder::new().name("mpi".into()).spawn(speak).map_err(|error| broken(error.to_string()))?;
        let (rank, size) = started.recv_timeout(timeout).map_err(|error| {
            broken(match error {
                RecvTimeoutError::Timeout => {
                    format!("not all ranks have started within {} s", timeout.as_secs())
                }
                RecvTimeoutError::Disconnected => "MPI was started before".to_owned(),
            })
        })?;
        Ok(Self { rank, size, timeout, work, watch, seconds: Cell::new(0.0) })
    }

    /// Has the thread do `work`, and waits for it as long as messages come.
    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Link) -> R + Send + 'static,
    ) -> Result<R, CollectiveError> {
        self.wait(&self.begin(work)?)
    }

    /// Has the thread do `work` after all that it was given before.
    fn begin<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Link) -> R + Send + 'static,
    ) -> Result<Receiver<R>, CollectiveError> {
        let (reply, done) = mpsc::channel();
        let work = Box::new(move |link: &Link| drop(reply.send(work(link))));
        self.work.send(work).map_err(|_| gone())?;
        Ok(done)
    }

    fn wait<R>(&self, done: &Receiver<R>) -> Result<R, CollectiveError> {
        let began = Instant::now();
        // Counted in short waits: the clock also runs while this process itself is stopped, which is no other's fault.
        let (mut waited, mut seen) = (Duration::ZERO, 0);
        let result = loop {
            match done.recv_timeout(WAIT) {
                Ok(result) => break Ok(result),
                Err(RecvTimeoutError::Disconnected) => break Err(gone()),
                Err(RecvTimeoutError::Timeout) => waited += WAIT,
            }
            let (done, silent) = self.watch.look();
            if done != seen {
                (waited, seen) = (Duration::ZERO, done);
            }
            if waited >= self.timeout {
                self.watch.given_up.store(true, Ordering::Relaxed);
                let (rank, seconds) = (self.rank, self.timeout.as_secs());
                break Err(CollectiveError::Silent { rank, silent, seconds });
            }
        };
        self.seconds.set(self.seconds.get() + began.elapsed().as_secs_f64());
        result
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, mut values: Vec<f32>) -> Sums<'_> {
        let begun = self.begin(move |link| {
            values.chunks_mut(BLOCK).for_each(|block| link.reduce(block));
            values
        });
        Box::new(move || self.wait(&begun?))
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let bytes = bytes.to_vec();
        self.ask(move |link| link.gather(bytes))
    }

    fn leave(&self) -> Result<(), CollectiveError> {
        // After this nobody has to be waited for.
        self.all_gather(&[])?;
        self.ask(|link| drop(link.universe.take()))
    }

    fn seconds(&self) -> f64 {
        self.seconds.get()
    }
}

fn gone() -> CollectiveError {
    CollectiveError::Broken { what: "the thread that speaks to it has ended".into() }
}

/// What the thread tells of the messages that it waits for.
#[derive(Debug, Default)]
struct Watch {
    /// How often one was done, and the ranks of the others.
    waiting: Mutex<(u64, Vec<usize>)>,
    given_up: AtomicBool,
}

impl Watch {
    fn waiting_for(&self, ranks: Vec<usize>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = (waiting.0 + 1, ranks);
    }

    /// How often something was done, and the ranks that are waited for.
    fn look(&self) -> (u64, Vec<usize>) {
        let (done, mut ranks) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ranks.sort_unstable();
        ranks.dedup();
        (done, ranks)
    }
}

/// What the thread has.
struct Link {
    world: SimpleCommunicator,
    watch: Arc<Watch>,
    universe: RefCell<Option<Universe>>,
}

impl Link {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    /// Each rank adds up one part of the block in the order of the ranks, and gives its sums to all.
    fn reduce(&self, block: &mut [f32]) {
        let (rank, size, length) = (self.rank(), self.size(), block.len());
        let part = |rank: usize| rank * length / size..(rank + 1) * length / size;
        let mut received = vec![vec![0.0; part(rank).len()]; size];
        received[rank].copy_from_slice(&block[part(rank)]);
        let sent: Vec<&[f32]> = (0..size).map(|rank| &block[part(rank)]).collect();
        self.exchange(&sent, received.iter_mut().map(Vec::as_mut_slice).collect());
        let mut received = received.into_iter();
        let mut sums = received.next().expect("there is a rank 0");
        for values in received {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        block[part(rank)].copy_from_slice(&sums);
        let mut rest = block;
        let parts = (0..size).map(|rank| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(part(rank).len());
            rest = after;
            part
        });
        self.exchange(&vec![sums.as_slice(); size], parts.collect());
    }

    fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let (rank, size) = (self.rank(), self.size());
        let mut lengths = vec![[bytes.len() as u64]; size];
        self.exchange(
            &vec![&[bytes.len() as u64][..]; size],
            lengths.iter_mut().map(|one| &mut one[..]).collect(),
        );
        let mut all: Vec<Vec<u8>> = lengths.into_iter().map(|[length]| vec![0; length as usize]).collect();
        self.exchange(&vec![bytes.as_slice(); size], all.iter_mut().map(Vec::as_mut_slice).collect());
        all[rank] = bytes;
        all
    }

    /// Sends to every other rank its entry of `sent` and receives from it its entry of `received`.
    fn exchange<T: Equivalence>(&self, sent: &[&[T]], received: Vec<&mut [T]>) {
        request::scope(|scope| {
            let own = self.rank();
            let mut pending: Vec<(usize, Request<'_, [T], &LocalScope<'_>>)> = vec![];
            for (rank, values) in received.into_iter().enumerate().filter(|&(rank, _)| rank != own) {
                let from = self.world.process_at_rank(rank as i32);
                pending.push((rank, from.immediate_receive_into_with_tag(scope, values, TAG)));
            }
            for (rank, values) in sent.iter().enumerate().filter(|&(rank, _)| rank != own) {
                let to = self.world.process_at_rank(rank as i32);
                pending.push((rank, to.immediate_send_with_tag(scope, *values, TAG)));
            }
            let mut last = Instant::now();
            self.watch.waiting_for(ranks(&pending));
            while !pending.is_empty() {
                let before = pending.len();
                pending = pending
                    .into_iter()
                    .filter_map(|(rank, request)| Some((rank, request.test().err()?)))
                    .collect();
                if pending.len() < before {
                    last = Instant::now();
                    self.watch.waiting_for(ranks(&pending));
                } else if self.watch.given_up.load(Ordering::Relaxed) {
                    loop {
                        thread::park();
                    }
                } else if last.elapsed() < BUSY {
                    thread::yield_now();
                } else {
                    thread::sleep(PAUSE);
                }
            }
        });
    }
}

fn ranks<R>(pending: &[(usize, R)]) -> Vec<usize> {
    pending.iter().map(|(rank, _)| *rank).collect()
}
