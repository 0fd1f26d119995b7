//! How LibTorch's threads wait for work.

use std::{env, os::unix::process::CommandExt, process::Command};

/// What OpenMP libraries go by, the first by its standard.
const SETTINGS: [&str; 3] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"];

/// Has LibTorch's threads sleep when they have nothing to do: by themselves they spin for milliseconds after every
/// operation, on the cores that our loops between the operations need (docs/log.md).
///
/// The library reads this once, as it is loaded, so the program starts itself again. Where that cannot be, it is slower
/// and right. Who has set anything of the kind is left to it.
pub fn sleep_when_idle() {
    if SETTINGS.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    // It returns only if it fails.
    let _ = Command::new(program).arg0(name).args(arguments).env(SETTINGS[0], "passive").exec();
}
