//! Which CUDA a build is for.
//!
//! cudarc's build script asks `nvcc`, and where there is none takes the newest CUDA that it knows, whose functions an older
//! driver may lack. The driver knows better.

use std::process::Command;

/// What cudarc's build script reads first.
const VERSION: &str = "CUDARC_CUDA_VERSION";

/// Sets the version of the driver of this machine, unless the user has set one or there is no driver.
pub fn prepare(cargo: &mut Command) {
    if std::env::var_os(VERSION).is_some() {
        return;
    }
    let Ok(output) = Command::new("nvidia-smi").output() else { return };
    if let Some(version) = version(&String::from_utf8_lossy(&output.stdout)) {
        cargo.env(VERSION, version);
    }
}

/// `13000` from the line of `nvidia-smi` that says `CUDA Version: 13.0`.
fn version(printed: &str) -> Option<String> {
    let (_, rest) = printed.split_once("CUDA Version:")?;
    let (major, minor) = rest.split_whitespace().next()?.split_once('.')?;
    Some(format!("{}{:02}0", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_tells_its_version() {
        let printed = "| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0     |";
        assert_eq!(version(printed).as_deref(), Some("13000"));
        assert_eq!(version("CUDA Version: 12.8 |").as_deref(), Some("12080"));
        assert_eq!(version("CUDA Version: N/A"), None);
        assert_eq!(version("no devices"), None);
    }
}
