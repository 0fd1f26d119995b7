//! Numbers of the command line that say their range where they are out of it.

use std::{fmt::Display, str::FromStr, time::Duration};

/// Reads whole numbers from `least` on.
pub fn whole<T: FromStr + PartialOrd + Display + Copy>(
    least: T,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| *number >= least);
        number.ok_or_else(|| format!("must be a whole number from {least} on"))
    }
}

/// Reads a time in seconds, which may have decimals, of at most a day.
pub fn seconds(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(86_400);
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero() && *time <= DAY)
        .ok_or_else(|| "must be a number of seconds above 0 and of at most a day, 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused() {
        let from_one = whole(1u32);
        assert_eq!((from_one("1"), from_one("7")), (Ok(1), Ok(7)));
        for text in ["0", "-1", "1.5", "x", ""] {
            assert_eq!(from_one(text), Err("must be a whole number from 1 on".to_owned()), "{text}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("86400"), Ok(Duration::from_secs(86_400)));
        for text in ["0", "86401", "1e15", "-1", "1e-20", "1e300", "inf", "NaN", "x", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
