//! Expected numbers, as golden files have them.

use std::path::Path;

use serde_json::Value;

/// A golden file.
pub fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Fails unless two numbers differ by at most `tolerance`; both may be null.
#[track_caller]
pub fn assert_close(value: impl Into<Option<f64>>, expected: &Value, tolerance: f64) {
    match (value.into(), expected.as_f64()) {
        (None, None) => {}
        (Some(value), Some(expected)) if (value - expected).abs() <= tolerance => {}
        (value, expected) => panic!("{value:?} instead of {expected:?}"),
    }
}
