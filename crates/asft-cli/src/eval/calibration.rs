//! What is known of judges that stand in for the published ones, beside their replies.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use asft_eval::{EvalError, calibrate::ENOUGH_ITEMS, files};
use serde_json::Value;

use crate::{failure::Failure, output::note};

/// Judges of the published tables, which others are calibrated against.
const PUBLISHED: [&str; 2] = ["gpt-4", "gpt-4-1106-preview"];

/// Where the calibration of a judge on a benchmark is kept.
pub fn file(cache: &Path, benchmark: &str, judge: &str) -> PathBuf {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let name: String = judge.chars().map(plain).collect();
    cache.join(format!("calibration-{benchmark}-{name}.json"))
}

/// What is to be said of a judge's scores on a benchmark; nothing of the published judges.
pub fn statement(cache: &Path, benchmark: &str, judge: &str) -> Result<Option<String>, Failure> {
    if PUBLISHED.contains(&judge) {
        return Ok(None);
    }
    files::check_folder(cache)?;
    let path = file(cache, benchmark, judge);
    let kept: Value = match files::read_text(&path) {
        Err(EvalError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Value::Null,
        read => serde_json::from_str(&read?)
            .map_err(|error| Failure::input(format!("{}: {error}\nhint: calibrate again", path.display())))?,
    };
    Ok(Some(match kept["items"].as_u64() {
        Some(items) if items >= ENOUGH_ITEMS as u64 && kept["judge"] == judge => format!(
            "{judge} was calibrated on {items} items: Spearman {} with the recorded verdicts ({})",
            kept["spearman"].as_f64().map_or("undefined".to_owned(), |value| format!("{value:.3}")),
            path.display()
        ),
        _ => format!(
            "uncalibrated judge: nothing is known of how {judge} agrees with the published judges, so its scores are not to be set beside theirs"
        ),
    }))
}

/// Says it on standard error.
pub fn warn(cache: &Path, benchmark: &str, judge: &str) -> Result<(), Failure> {
    if let Some(statement) = statement(cache, benchmark, judge)? {
        note!("{statement}");
    }
    Ok(())
}
