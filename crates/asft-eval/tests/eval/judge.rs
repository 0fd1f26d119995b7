//! Judge runs in virtual time: every failure, what it costs, and what is left behind.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use asft_eval::judge::{
    Budget, Cache, Judgment, Limits, NoResponse, Observer, Outcome, Prices, Status, failures_path, key, plan,
    write_failures,
};
use serde_json::json;

use crate::judge_world::{Rated, Scripted, Sent, World, params, rated, rating, response, said};

fn statuses(outcome: &Outcome) -> Vec<&'static str> {
    outcome.judgments.iter().map(|judgment| judgment.status.name()).collect()
}

fn count(outcome: &Outcome, status: Status) -> usize {
    outcome.judgments.iter().filter(|judgment| judgment.status == status).count()
}

/// What one item meets in turn, and then a rating of 9.
struct Case {
    name: &'static str,
    meets: Vec<Sent>,
    attempts: usize,
    status: Status,
    /// Milliseconds between requests.
    gaps: Vec<u128>,
    cached: usize,
}

fn case(name: &'static str, meets: Vec<Sent>, status: Status, gaps: &[u128], cached: usize) -> Case {
    Case { name, meets, attempts: 1, status, gaps: gaps.to_vec(), cached }
}

fn cases() -> Vec<Case> {
    use Status::{ApiError, Contradictory, Empty, Ok, Refused, Truncated, Unparsable};
    let text = |text: &str, finish: &str| vec![said(json!({"content": text}), finish)];
    let null = || said(json!({"content": null}), "stop");
    let retried = |name, sent: Sent| case(name, vec![sent.clone(), sent], Ok, &[500, 1000], 1);
    let single = |name, sent: Sent, status, cached| case(name, vec![sent], status, &[], cached);
    vec![
        case("429 with seconds", vec![response(429, Some("7"), "")], Ok, &[7000], 1),
        case(
            "503 with a date",
            vec![response(503, Some("Sun, 06 Nov 1994 08:50:37 GMT"), "")],
            Ok,
            &[60_000],
            1,
        ),
        case("429 with a wait that is over", vec![response(429, Some("0"), "")], Ok, &[500], 1),
        retried("500", response(500, None, "")),
        retried("408", response(408, None, "")),
        retried("425", response(425, None, "")),
        retried("reset in mid-body", Err(NoResponse::Broken("unexpected end".to_owned()))),
        retried("no connection", Err(NoResponse::Unreachable("refused".to_owned()))),
        retried("not JSON", response(200, None, "<html>")),
        retried("JSON without choices", response(200, None, r#"{"error":{"message":"busy"}}"#)),
        // The script lets 30 s go by.
        case("hang past the time-out", vec![Err(NoResponse::TimedOut); 2], Ok, &[30_500, 31_000], 1),
        case(
            "500 for ever",
            vec![response(500, None, ""); 9],
            ApiError,
            &[500, 1000, 2000, 4000, 8000, 16_000, 30_000],
            0,
        ),
        single("400", response(400, None, ""), ApiError, 0),
        single("413", response(413, None, ""), ApiError, 0),
        single("422", response(422, None, ""), ApiError, 0),
        single("null content", null(), Empty, 0),
        case("blank content", text(" \n", "stop"), Empty, &[], 0),
        case("cut before a verdict", text("On the one hand", "length"), Truncated, &[], 1),
        case("cut after a verdict", text("[[7]] becau", "length"), Ok, &[], 1),
        case("no verdict", text("Good.", "stop"), Unparsable, &[], 1),
        case("two labels", text("[[7]] or [[8]]", "stop"), Contradictory, &[], 1),
        case("content filter", text("", "content_filter"), Refused, &[], 1),
        single("refusal", said(json!({"content": null, "refusal": "No."}), "stop"), Refused, 1),
        Case { attempts: 2, ..case("no verdict, then one", text("Good.", "stop"), Ok, &[0], 2) },
        Case { attempts: 2, ..case("blank, then a verdict", vec![null()], Ok, &[0], 2) },
        Case { attempts: 2, ..case("blank twice", vec![null(), null()], Empty, &[0], 0) },
        Case {
            attempts: 2,
            ..case("no verdict, then nothing", [text("Good.", "stop"), vec![null()]].concat(), Empty, &[0], 1)
        },
    ]
}

#[test]
fn every_failure_has_its_retries_its_status_and_its_place_in_the_cache() {
    for Case { name, meets, attempts, status, gaps, cached } in cases() {
        let world = World::new();
        let judge = Scripted::new(&world.clock, |number, _| {
            let sent = meets.get(number).cloned().unwrap_or_else(|| rating(9));
            if sent == Err(NoResponse::TimedOut) {
                asft_eval::judge::Clock::sleep(&world.clock, Duration::from_secs(30));
            }
            sent
        });
        let items = [Rated { name: "x".to_owned(), attempts }];
        let cache = world.cache();
        let outcome = world.run(&cache, Some(&judge)).run(&items).unwrap();
        let judgment = &outcome.judgments[0];
        assert_eq!(judgment.status, status, "{name}: {judgment:?}");
        assert_eq!(judge.gaps(), gaps, "{name}");
        assert_eq!(outcome.requests as usize, gaps.len() + 1, "{name}");
        assert_eq!(cache.entries().len(), cached, "{name}");
        assert_eq!(judgment.error.is_some(), status == Status::ApiError, "{name}");
        assert_eq!((outcome.stopped, outcome.interrupted), (None, false), "{name}");

        // What was cached gives the same again without a request; what was not is asked for again.
        drop(cache);
        let cache = Cache::read(world.path()).unwrap();
        let again = world.run(&cache, None).run(&items).unwrap();
        match status {
            Status::ApiError | Status::Empty => assert_eq!(statuses(&again), ["missing"], "{name}"),
            _ => assert_eq!(again.judgments, outcome.judgments, "{name}"),
        }
    }
}

#[test]
fn a_request_says_what_it_has_to_and_a_reply_is_kept_with_its_circumstances() {
    let world = World::new();
    let judge = Scripted::new(&world.clock, |number, _| match number {
        0 => said(json!({"content": "Good."}), "stop"),
        _ => rating(9),
    });
    let cache = world.cache();
    let items = [Rated { name: "x".to_owned(), attempts: 2 }];
    let outcome = world.run(&cache, Some(&judge)).run(&items).unwrap();
    let bodies: Vec<_> = judge.seen.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    let mut messages =
        json!([{"role": "system", "content": "Say [[rating]]."}, {"role": "user", "content": "x"}]);
    let asked =
        |messages| json!({"model": "judge-model", "messages": messages, "temperature": 0, "max_tokens": 100});
    assert_eq!(bodies[0], asked(messages.clone()));
    let more = json!([{"role": "assistant", "content": "Good."}, {"role": "user", "content": "The rating, please."}]);
    messages.as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
    assert_eq!(bodies[1], asked(messages.clone()));

    let entries = cache.entries();
    assert_eq!(
        entries[1].key,
        key("judge", &serde_json::from_value::<Vec<_>>(messages).unwrap(), &params(), 1)
    );
    assert_eq!((entries[1].judge.as_str(), entries[1].source.as_str()), ("judge", "api"));
    assert_eq!((entries[1].created, entries[1].params.clone()), (784_111_777.0, params()));
    assert_eq!(entries[0].prompt_sha256, entries[1].prompt_sha256);
    let replies = &outcome.judgments[0].replies;
    assert_eq!(replies.len(), 2);
    assert_eq!((&replies[1].reply, replies[1].created), (&entries[1].reply, entries[1].created));
    let tokens = (outcome.spent.prompt_tokens, outcome.spent.completion_tokens, outcome.spent.cost);
    assert_eq!(tokens, (20, 10, None));
}

#[test]
fn a_server_that_refuses_stops_the_run() {
    let quota = r#"{"error":{"message":"No credit.","code":"insufficient_quota"}}"#;
    for (status, body, requests, message) in [
        (401, r#"{"error":{"message":"Bad key."}}"#, 3, "HTTP 401: Bad key.\nhint: check the key"),
        (403, "", 3, "HTTP 403\nhint: "),
        (404, "", 3, "HTTP 404\nhint: check --base-url"),
        (429, quota, 3, "HTTP 429: No credit.\nhint: add credit"),
        (
            400,
            r#"{"error":{"message":"Unknown field."}}"#,
            7,
            "in a row failed alike: HTTP 400: Unknown field.",
        ),
    ] {
        let world = World::new();
        let judge = Scripted::new(&world.clock, |number, _| match number {
            0 | 1 => rating(9),
            _ => response(status, None, body),
        });
        let cache = world.cache();
        let outcome = world.run(&cache, Some(&judge)).run(&rated(10)).unwrap();
        let why = outcome.stopped.as_deref().unwrap_or_default();
        assert!(why.contains(message), "{status}: {why}");
        assert_eq!((judge.requests(), cache.entries().len()), (requests, 2), "{status}");
        assert_eq!((count(&outcome, Status::Ok), count(&outcome, Status::ApiError)), (2, 8), "{status}");
        let last = outcome.judgments[9].error.as_deref();
        assert_eq!(last, Some("not asked, as the run was stopped"), "{status}");
    }
}

#[test]
fn bad_requests_that_differ_or_do_not_follow_each_other_stop_nothing() {
    let world = World::new();
    let judge = Scripted::new(&world.clock, |number, _| match number {
        4 => rating(9),
        9 => response(400, None, "other"),
        _ => response(400, None, "bad"),
    });
    let outcome = world.run(&world.cache(), Some(&judge)).run(&rated(14)).unwrap();
    assert_eq!((outcome.stopped, judge.requests()), (None, 14));
    let world = World::new();
    let judge = Scripted::new(&world.clock, |_, _| response(413, None, "too long"));
    let outcome = world.run(&world.cache(), Some(&judge)).run(&rated(14)).unwrap();
    assert_eq!((outcome.stopped, judge.requests()), (None, 14));
}

#[test]
fn the_spending_limit_is_never_passed_and_the_rest_can_be_had_later() {
    let limit = 0.02;
    // A token costs 1/100000; a request reserves 6 tokens in and 100 out.
    let prices = Prices::per_million(10.0, 10.0).unwrap();
    let budget = |limit| Budget::new(Some(prices), Some(limit)).unwrap();
    let mut world = World::new();
    world.budget = budget(limit);
    let in_flight = Mutex::new(0);
    let judge = Scripted::new(&world.clock, |number, _| {
        *in_flight.lock().unwrap() += 1;
        let sent = match number % 4 {
            0 => Err(NoResponse::TimedOut),
            1 => response(200, None, r#"{"choices":[{"message":{"content":"[[1]]"}}]}"#),
            2 => response(500, None, ""),
            _ => said(json!({"content": "[[1]]"}), "stop"),
        };
        let mut in_flight = in_flight.lock().unwrap();
        let reserved = f64::from(*in_flight) * 106.0 / 1e5;
        assert!(world.budget.spent().cost.unwrap() + reserved <= limit + 1e-12);
        *in_flight -= 1;
        sent
    });
    let cache = world.cache();
    let mut run = world.run(&cache, Some(&judge));
    run.parallel = 4;
    let outcome = run.run(&rated(60)).unwrap();
    let spent = outcome.spent.cost.unwrap();
    assert!(spent <= limit && spent > limit - 0.00106, "{spent}");
    let done = count(&outcome, Status::Ok);
    assert!(done > 5 && count(&outcome, Status::Budget) == 60 - done, "{done}");
    assert_eq!(cache.entries().len(), done);
    // Of four requests the first may have been answered, the second was without usage, the third was not answered,
    // and the fourth took 10 tokens in and 5 out.
    let requests = |kind| (kind..outcome.requests).step_by(4).count() as u64;
    let (whole, counted) = (requests(0) + requests(1), requests(3));
    let tokens = (outcome.spent.prompt_tokens, outcome.spent.completion_tokens);
    assert_eq!(tokens, (6 * whole + 10 * counted, 100 * whole + 5 * counted));

    let output = world.path().join("out.jsonl");
    let path = failures_path(&output);
    assert_eq!(path, world.path().join("out.jsonl.failures.jsonl"));
    let name = |index: usize| json!({"question_id": index}).as_object().unwrap().clone();
    assert_eq!(write_failures(&path, &outcome.judgments, name).unwrap(), 60 - done);
    let row = r#"{"question_id":59,"status":"budget","error":"the spending limit is reached"}"#;
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().last(), Some(row));

    let plenty = budget(9.0);
    let judge = Scripted::new(&world.clock, |_, _| rating(9));
    let mut run = world.run(&cache, Some(&judge));
    run.budget = &plenty;
    let outcome = run.run(&rated(60)).unwrap();
    assert_eq!((count(&outcome, Status::Ok), judge.requests()), (60, 60 - done));
    assert_eq!(write_failures(&path, &outcome.judgments, name).unwrap(), 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn a_spending_limit_needs_to_know_the_longest_reply() {
    let mut world = World::new();
    world.budget = Budget::new(Some(Prices::per_million(1.0, 1.0).unwrap()), Some(1.0)).unwrap();
    world.params.remove("max_tokens");
    let error = world.run(&world.cache(), None).run(&rated(1)).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("max_tokens"), "{error}");
}

#[test]
fn no_minute_sees_more_than_its_limits() {
    // A request that fails keeps the 26 tokens of its estimate, the others take 15.
    for (requests, tokens, after_failure) in [(Some(30.0), None, 2.0), (None, Some(450.0), 26.0 / 7.5)] {
        let world = World::new();
        let judge = Scripted::new(&world.clock, |number, _| match number % 3 {
            0 => response(500, Some("0"), ""),
            _ => rating(9),
        });
        let cache = world.cache();
        let mut run = world.run(&cache, Some(&judge));
        run.limits = Limits::per_minute(requests, tokens).unwrap();
        run.jitter = &|| 0.0;
        run.run(&rated(40)).unwrap();
        let seen = judge.seen.lock().unwrap();
        let starts: Vec<f64> = seen.iter().map(|(start, _)| start.as_secs_f64()).collect();
        assert_eq!(starts.len(), 60);
        for (number, pair) in starts.windows(2).enumerate() {
            let wanted = if number % 3 == 0 { after_failure } else { 2.0 };
            assert!((pair[1] - pair[0] - wanted).abs() < 1e-6, "{number}: {pair:?}");
        }
    }
}

#[test]
fn an_interrupt_lets_requests_end_and_starts_none() {
    let world = World::new();
    let judge = Scripted::new(&world.clock, |number, _| {
        if number == 2 {
            world.interrupt.store(true, Ordering::Relaxed);
        }
        rating(9)
    });
    let cache = world.cache();
    let outcome = world.run(&cache, Some(&judge)).run(&rated(6)).unwrap();
    assert_eq!(statuses(&outcome), ["ok", "ok", "ok", "missing", "missing", "missing"]);
    assert!(outcome.interrupted && cache.entries().len() == 3);

    // Also out of a long pause.
    let world = World::new();
    let judge = Scripted::new(&world.clock, |_, _| response(503, Some("3600"), ""));
    struct Interrupter<'a>(&'a World, Mutex<Vec<String>>);
    impl Observer for Interrupter<'_> {
        fn retrying(&self, index: usize, why: &str, pause: Duration) {
            self.1.lock().unwrap().push(format!("{index} {why} {}", pause.as_secs()));
            self.0.interrupt.store(true, Ordering::Relaxed);
        }
        fn finished(&self, index: usize, judgment: &Judgment) {
            self.1.lock().unwrap().push(format!("{index} {}", judgment.status.name()));
        }
    }
    let observer = Interrupter(&world, Mutex::default());
    let cache = world.cache();
    let mut run = world.run(&cache, Some(&judge));
    run.observer = &observer;
    let outcome = run.run(&rated(1)).unwrap();
    assert!(outcome.interrupted);
    assert_eq!(*observer.1.lock().unwrap(), ["0 HTTP 503 3600", "0 missing"]);
    assert!(asft_eval::judge::Clock::elapsed(&world.clock) < Duration::from_secs(1));
}

#[test]
fn items_that_ask_the_same_share_a_reply() {
    let world = World::new();
    let judge = Scripted::new(&world.clock, |_, _| {
        // Long enough for the other workers to come here.
        std::thread::sleep(Duration::from_millis(50));
        rating(9)
    });
    let cache = world.cache();
    let items: Vec<Rated> = (0..4).map(|_| Rated { name: "x".to_owned(), attempts: 1 }).collect();
    let mut run = world.run(&cache, Some(&judge));
    run.parallel = 4;
    let outcome = run.run(&items).unwrap();
    assert_eq!(statuses(&outcome), ["ok"; 4]);
    assert_eq!((judge.requests(), cache.entries().len()), (1, 1));
}

#[test]
fn a_reply_that_cannot_be_kept_ends_the_run() {
    let world = World::new();
    let judge = Scripted::new(&world.clock, |_, _| rating(9));
    let error = world.run(&Cache::read(world.path()).unwrap(), Some(&judge)).run(&rated(5)).unwrap_err();
    assert!(!error.is_input() && error.to_string().contains("opened to be read"), "{error}");
    assert_eq!(judge.requests(), 1);
}

#[test]
fn a_plan_counts_what_would_be_sent() {
    let world = World::new();
    let cache = world.cache();
    let judge = Scripted::new(&world.clock, |_, _| said(json!({"content": "Good."}), "stop"));
    world.run(&cache, Some(&judge)).run(&rated(1)).unwrap();
    let mut items = rated(3);
    items.push(Rated { name: "item 2.".to_owned(), attempts: 1 });
    // Its first reply is there and has no verdict.
    items[0].attempts = 2;
    let prices = Some(Prices::per_million(1e6, 1e6).unwrap());
    let plan = plan(&items, "judge", &params(), &cache, 20, prices);
    // "Say [[rating]]." and "item N." are 22 characters; the second attempt has 5 + 19 more.
    let wanted = json!({
        "calls": 3, "cache_hits": 2, "characters": 22 * 3 + 24, "prompt_tokens": 6 * 2 + 12,
        "completion_tokens_expected": 60, "completion_tokens_worst": 300, "cost_expected": 84.0, "cost_worst": 324.0,
    });
    assert_eq!(json!(plan), wanted);
    assert_eq!(judge.requests(), 1);
}
