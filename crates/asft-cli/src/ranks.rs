//! The processes that `mpirun` started together: whether there are several, and how they begin and end.

use std::{env, thread, time::Duration};

use asft_train::{Collective, CollectiveError};

use crate::failure::Failure;

/// What Open MPI's `mpirun` tells each of several processes.
#[derive(Clone, Copy, Debug)]
struct Started {
    rank: usize,
    size: usize,
}

/// `None` for a process that is alone.
fn started() -> Option<Started> {
    let number = |name: &str| env::var(name).ok()?.parse::<usize>().ok();
    let size = number("OMPI_COMM_WORLD_SIZE").filter(|&size| size > 1)?;
    Some(Started { rank: number("OMPI_COMM_WORLD_RANK").unwrap_or(0), size })
}

/// Whether this is the process that tells what happens.
pub fn is_first() -> bool {
    started().is_none_or(|started| started.rank == 0)
}

/// Refuses to do `command`, which knows nothing of other processes, once in each of several.
pub fn refuse_several(command: &str) -> Result<(), Failure> {
    match started() {
        None => Ok(()),
        Some(Started { size, .. }) => Err(after_the_first(Failure::input(format!(
            "asft {command} is work for one process, and mpirun started {size}\nhint: only asft train shares its work"
        )))),
    }
}

/// Joins the processes that this one was started with; one that is silent for `timeout` is given up.
#[cfg(feature = "mpi")]
pub fn join(timeout: Duration) -> Result<Box<dyn Collective>, Failure> {
    match started() {
        None => Ok(Box::new(asft_train::Alone)),
        Some(_) => Ok(Box::new(asft_train::Mpi::start(timeout)?)),
    }
}

/// Fails where this process is one of several: each would train by itself.
#[cfg(not(feature = "mpi"))]
pub fn join(_: Duration) -> Result<Box<dyn Collective>, Failure> {
    match started() {
        None => Ok(Box::new(asft_train::Alone)),
        Some(Started { size, .. }) => Err(after_the_first(Failure::input(format!(
            "mpirun started {size} processes, but this asft was built without MPI: build it with --features mpi, or start it alone"
        )))),
    }
}

/// Ends the work of all: what a rank other than 0 has to say is said by rank 0, unless it alone knows.
pub fn leave(ranks: &dyn Collective, done: Result<(), Failure>) -> Result<(), Failure> {
    let done = match done {
        Ok(()) | Err(Failure::Interrupted(_)) => ranks.leave().map_err(Failure::from).and(done),
        failed => failed,
    };
    match done {
        // mpirun hands on the exit code of rank 0.
        Err(Failure::Interrupted(_)) if ranks.rank() > 0 => Ok(()),
        Err(failure) if !knows_alone(&failure) => Err(after_the_first(failure)),
        done => done,
    }
}

fn knows_alone(failure: &Failure) -> bool {
    let (Failure::Input(error) | Failure::Run(error)) = failure else { return false };
    error.chain().filter_map(|cause| cause.downcast_ref::<CollectiveError>()).any(|error| !error.is_common())
}

/// A failure that rank 0 reports. mpirun ends all processes as soon as the first has failed, so the others wait a moment.
fn after_the_first(failure: Failure) -> Failure {
    if is_first() {
        return failure;
    }
    thread::sleep(Duration::from_secs(1));
    Failure::Told(failure.code())
}
