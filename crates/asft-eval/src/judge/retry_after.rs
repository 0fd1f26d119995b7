//! The header `Retry-After`: seconds, or a date in one of HTTP's three forms.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// How long to wait from `now` on; `None` if the header is no such thing.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    date(header).map(|date| date.saturating_sub(now))
}

/// A date as time since 1970: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or
/// `Sun Nov  6 08:49:37 1994`.
fn date(text: &str) -> Option<Duration> {
    let parts: Vec<&str> = text.split([' ', ',', '-']).filter(|part| !part.is_empty()).collect();
    let (day, month, year, time) = match parts[..] {
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let number = |text: &str| -> Option<u64> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    let day = number(day).filter(|day| (1..=31).contains(day))?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year = match (number(year)?, year.len()) {
        (short, 2) if short < 70 => 2000 + short,
        (short, 2) => 1900 + short,
        (long @ 1970..=9999, 4) => long,
        _ => return None,
    };
    let [hours, minutes, seconds] = <[&str; 3]>::try_from(time.split(':').collect::<Vec<_>>()).ok()?;
    let (hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    Some(Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // With March as the first month the leap day is the last day of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_of_months = (153 * month + 2) / 5;
    // 719468 days lie between 1 March 0000 and 1 January 1970.
    365 * year + leap_days + days_of_months + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_three_forms() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(date(text), Some(Duration::from_secs(784_111_777)), "{text}");
        }
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Thu, 31 Dec 2099 23:59:59 GMT", 4_102_444_799),
        ] {
            assert_eq!(date(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn waits_are_seconds_or_until_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |header: &str| retry_after(header, now).map(|wait| wait.as_secs_f64());
        assert_eq!(wait(" 120 "), Some(120.0));
        assert_eq!(wait("0.5"), Some(0.5));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60.0));
        assert_eq!(wait("Sun, 06 Nov 1994 08:40:00 GMT"), Some(0.0));
        for wrong in ["", "soon", "-1", "NaN", "inf", "1e300", "Sun, 06 Foo 1994 08:49:37 GMT", "a b c d e f"]
        {
            assert_eq!(wait(wrong), None, "{wrong}");
        }
    }
}
