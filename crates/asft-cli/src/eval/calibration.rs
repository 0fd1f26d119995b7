//! What is known of judges that stand in for the published ones, beside their replies.

use std::path::{Path, PathBuf};

use asft_eval::calibrate::ENOUGH_ITEMS;
use serde_json::Value;

use crate::{failure::Failure, output::note};

/// Judges of the published tables, which others are calibrated against.
const PUBLISHED: [&str; 2] = ["gpt-4", "gpt-4-1106-preview"];

/// Where the calibration of a judge is kept.
pub fn file(cache: &Path, judge: &str) -> PathBuf {
    let name: String = judge
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' })
        .collect();
    cache.join(format!("calibration-{name}.json"))
}

/// Says so where a judge stands in for the published ones and it is not known how well.
pub fn warn(cache: &Path, judge: &str) -> Result<(), Failure> {
    if PUBLISHED.contains(&judge) {
        return Ok(());
    }
    let path = file(cache, judge);
    let items = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::input(format!("{}: {error}", path.display()))),
        Ok(text) => {
            let value: Value = serde_json::from_str(&text).map_err(|error| {
                Failure::input(format!("{}: {error}\nhint: calibrate again", path.display()))
            })?;
            value["items"].as_u64()
        }
    };
    match items {
        Some(items) if items >= ENOUGH_ITEMS as u64 => {
            note!("{judge} was calibrated on {items} items: {}", path.display());
        }
        _ => note!(
            "uncalibrated judge: nothing is known of how {judge} agrees with the published judges, so its scores are not to be set beside theirs\nhint: asft eval judge calibrate"
        ),
    }
    Ok(())
}
