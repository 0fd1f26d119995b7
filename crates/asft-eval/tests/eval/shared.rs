//! Where the recorded data lies.

use std::path::PathBuf;

/// A file or folder of `shared/data`; where there is none, says so by name and gives nothing.
pub fn data(path: &str) -> Option<PathBuf> {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(path);
    if !file.exists() {
        println!("skipped: shared/data/{path} is not beside the project");
        return None;
    }
    Some(file)
}
