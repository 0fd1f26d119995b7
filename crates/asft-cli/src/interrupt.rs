//! Ctrl-C, SIGTERM, and SIGUSR1, which mpirun hands on to its processes. A hang-up is left alone, so that nohup means what it says.

use crate::failure::Failure;

/// Calls `act` at each interrupt, on a thread of its own.
#[cfg(unix)]
pub fn on_interrupt(mut act: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM, SIGUSR1},
        iterator::Signals,
    };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(|error| Failure::Run(error.into()))?;
    std::thread::spawn(move || signals.forever().for_each(|_| act()));
    Ok(())
}

/// Elsewhere an interrupt ends the program at once; `--resume` goes on from the newest checkpoint.
#[cfg(not(unix))]
pub fn on_interrupt(_: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    Ok(())
}
