//! Which failures are tried again, which fail an item and which stop a run (EVALUATION §6.3).

use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};

use super::{NoResponse, Reply, Response, retry_after::retry_after, wire};

/// A request that gave no reply.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    /// What happened.
    pub message: String,
    pub consequence: Consequence,
    /// Whether the server may have written, and charged, a reply that did not arrive.
    pub charged: bool,
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Consequence {
    /// Another attempt, at the earliest after the time the server asks for.
    Again(Option<Duration>),
    /// The item fails. If nothing about the item explains it, the next ones may well fail alike.
    Fail { alike: bool },
    /// No request will succeed; the text is what to do.
    Stop(&'static str),
}

/// The longest that a server may ask to be waited for; a run that waited longer would look as if it hung.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Reads what came of a request; `now` is for a `Retry-After` that is a date.
pub(super) fn read(result: Result<Response, NoResponse>, now: SystemTime) -> Result<Reply, Failure> {
    let response = result.map_err(|error| Failure {
        charged: !matches!(error, NoResponse::Unreachable(_)),
        message: error.to_string(),
        consequence: Consequence::Again(None),
    })?;
    let again = || match response.retry_after.as_deref().and_then(|header| retry_after(header, now)) {
        Some(after) if after > LONGEST_WAIT => Consequence::Stop(
            "the server asks to be left alone for more than an hour (Retry-After): run the same command again later, \
             what was judged so far is in the cache",
        ),
        after => Consequence::Again(after),
    };
    let consequence = match response.status {
        200..300 => {
            return wire::reply(&response.body).map_err(|message| Failure {
                message,
                consequence: again(),
                charged: true,
            });
        }
        300..=399 => Consequence::Stop("name the address that it points to with --base-url"),
        401 => Consequence::Stop("check the key in the variable that --api-key-env names"),
        403 => Consequence::Stop("check that the key may use this model and this server"),
        404 => Consequence::Stop("check --base-url and --judge-model"),
        429 if wire::is_out_of_quota(&response.body) => {
            Consequence::Stop("add credit to the account; what was judged so far is in the cache")
        }
        408 | 425 | 429 | 500.. => again(),
        413 | 422 => Consequence::Fail { alike: false },
        _ => Consequence::Fail { alike: true },
    };
    Err(Failure { message: wire::failure(response.status, &response.body), consequence, charged: false })
}

/// How long to wait before a retry, the first of which is number 0: from 0 up to a limit that doubles, by
/// `fraction`, but no shorter than the server asks.
pub(super) fn pause(retry: u32, fraction: f64, after: Option<Duration>) -> Duration {
    const LONGEST: Duration = Duration::from_secs(60);
    let limit = Duration::from_secs(1 << retry.min(6)).min(LONGEST);
    limit.mul_f64(fraction.clamp(0.0, 1.0)).max(after.unwrap_or_default())
}

/// Counts failures that say the same, one after another, over all workers.
#[derive(Debug, Default)]
pub(super) struct Streak(Mutex<(String, u32)>);

impl Streak {
    const LIMIT: u32 = 5;

    /// Whether this failure is one too many.
    pub fn add(&self, message: &str) -> bool {
        let mut streak = self.0.lock().expect("no panic while it is held");
        if streak.0 != message {
            *streak = (message.to_owned(), 0);
        }
        streak.1 += 1;
        streak.1 >= Self::LIMIT
    }

    /// A request succeeded.
    pub fn end(&self) {
        *self.0.lock().expect("no panic while it is held") = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn consequence(status: u16, retry_after: Option<&str>, body: &str) -> Consequence {
        let response =
            Response { status, retry_after: retry_after.map(str::to_owned), body: body.as_bytes().to_vec() };
        read(Ok(response), UNIX_EPOCH).unwrap_err().consequence
    }

    #[test]
    fn consequences_of_failures() {
        for status in [408, 425, 429, 500, 502, 503, 529, 599] {
            assert_eq!(consequence(status, None, ""), Consequence::Again(None), "{status}");
        }
        for body in ["<html>", "{}", ""] {
            assert_eq!(consequence(200, None, body), Consequence::Again(None), "{body}");
        }
        for status in [301, 302, 308, 401, 403, 404] {
            assert!(matches!(consequence(status, None, ""), Consequence::Stop(_)), "{status}");
        }
        let quota = r#"{"error":{"code":"insufficient_quota"}}"#;
        assert!(matches!(consequence(429, Some("1"), quota), Consequence::Stop(_)));
        for (status, alike) in [(400, true), (413, false), (422, false), (405, true)] {
            assert_eq!(consequence(status, None, ""), Consequence::Fail { alike }, "{status}");
        }
        assert_eq!(consequence(429, Some("3600"), ""), Consequence::Again(Some(LONGEST_WAIT)));
        for days in ["3601", "864000", "Sun, 04 Jan 1970 00:00:00 GMT"] {
            assert!(matches!(consequence(429, Some(days), ""), Consequence::Stop(_)), "{days}");
        }
        let second = Some(Duration::from_secs(1));
        assert_eq!(consequence(503, Some("1"), ""), Consequence::Again(second));
        assert_eq!(consequence(429, Some("Thu, 01 Jan 1970 00:00:01 GMT"), ""), Consequence::Again(second));
    }

    #[test]
    fn only_what_the_server_may_have_answered_is_charged() {
        let charged = |result| read(result, UNIX_EPOCH).unwrap_err().charged;
        assert!(charged(Err(NoResponse::TimedOut)));
        assert!(charged(Err(NoResponse::Broken(String::new()))));
        assert!(!charged(Err(NoResponse::Unreachable(String::new()))));
        let response = |status| Ok(Response { status, retry_after: None, body: vec![] });
        assert!(charged(response(200)) && !charged(response(500)));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let longest: Vec<u64> = (0..9).map(|retry| pause(retry, 1.0, None).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(3, 0.25, None), Duration::from_secs(2));
        assert_eq!(pause(u32::MAX, 0.0, None), Duration::ZERO);
        let asked = Duration::from_secs(90);
        assert_eq!(pause(3, 0.25, Some(asked)), asked);
        assert_eq!(pause(3, 0.25, Some(Duration::from_millis(1))), Duration::from_secs(2));
    }

    #[test]
    fn the_fifth_of_a_kind_is_one_too_many() {
        let streak = Streak::default();
        assert!(!(0..4).any(|_| streak.add("a")));
        assert!(!streak.add("b"));
        assert!(!(0..4).any(|_| streak.add("a")));
        streak.end();
        assert!(!(0..4).any(|_| streak.add("a")));
        assert!(streak.add("a"));
    }
}
