//! A training run as a process of its own: the highest memory of a process never falls, and one that fails takes no
//! other down.

use std::{
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use clap::ValueEnum;

use super::plan::{Plan, Run};
use crate::{backend::Backend, failure::Failure, interrupt::on_interrupt, output};

/// Starts runs one after the other and hands interrupts on to the one that runs.
pub struct Launcher {
    running: Arc<AtomicU32>,
    backend: Backend,
}

impl Launcher {
    /// One for a comparison.
    pub fn new(backend: Backend) -> Result<Self, Failure> {
        let running = Arc::new(AtomicU32::new(0));
        let child = running.clone();
        on_interrupt(move || match child.load(Ordering::Relaxed) {
            0 => std::process::exit(130),
            process => interrupt(process),
        })?;
        Ok(Self { running, backend })
    }

    /// Trains a run to its end, going on where an earlier sitting left it.
    pub fn train(&self, plan: &Plan, run: &Run) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::Run(error.into());
        let directory = plan.run_directory(&run.name);
        let config = plan.settings.output.join("configs").join(format!("{}.toml", run.name));
        output::write_file(&config, run.config.to_toml().as_bytes())?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        let backend = self.backend.to_possible_value().expect("every backend has a name");
        command.arg("train").arg("--config").arg(&config).args(["--backend", backend.get_name()]);
        if directory.join("config.toml").is_file() {
            command.arg("--resume");
        }
        let status = self.wait(command.stdout(Stdio::null())).map_err(failed)?;
        match status.code() {
            Some(0) => Ok(()),
            Some(130) => Err(Failure::Interrupted(format!(
                "interrupted in {}\nhint: the same command goes on from there",
                run.name
            ))),
            Some(2) => Err(Failure::input(format!("{} could not start, see above", run.name))),
            _ => Err(Failure::Run(anyhow::anyhow!(
                "{} failed ({status}), see above\nhint: the same command tries it again; results so far are kept in {}",
                run.name,
                plan.settings.output.join("results").display()
            ))),
        }
    }

    fn wait(&self, command: &mut Command) -> std::io::Result<ExitStatus> {
        // In a group of its own it gets an interrupt of the terminal once, from us.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mut child = command.spawn()?;
        self.running.store(child.id(), Ordering::Relaxed);
        let status = child.wait();
        self.running.store(0, Ordering::Relaxed);
        status
    }
}

#[cfg(unix)]
fn interrupt(process: u32) {
    // SAFETY: a signal to a child that has not been waited for; were it gone, the call would fail and do nothing.
    #[expect(unsafe_code, reason = "the standard library sends no signals")]
    unsafe {
        libc::kill(process as libc::pid_t, libc::SIGINT);
    }
}

#[cfg(not(unix))]
fn interrupt(_: u32) {}
