//! Loading, filtering and dividing data sets.

use std::path::Path;

use serde_json::json;

use super::*;

/// Encodes each word as its length, so that texts can differ and their tokens not.
fn words(row: &PreferenceRow) -> Result<EncodedPair, DataError> {
    let tokens = |messages: &[crate::Message]| {
        let words = messages.iter().flat_map(|message| message.content.split_whitespace());
        words.map(|word| word.len() as u32).collect()
    };
    Ok(EncodedPair {
        origin: row.origin.clone(),
        prompt: tokens(&row.prompt),
        chosen: tokens(&row.chosen),
        rejected: row.rejected.as_deref().map(tokens).unwrap_or_default(),
    })
}

const ROWS: &str = r#"{"prompt": "a bb", "chosen": "a", "rejected": "bb bb bb", "score_chosen": 1, "score_rejected": 1}
{"prompt": "a bb", "chosen": "bb", "rejected": "cc"}
{"prompt": "a bb ccc", "chosen": "", "rejected": "cc", "score_chosen": 2, "score_rejected": 2}
{"prompt": "a bb ccc", "chosen": "a b c d", "rejected": "cc"}

{"prompt": "a", "chosen": "a", "rejected": "bb", "metadata": {"score_chosen": 2, "score_rejected": 1}}
"#;

fn options(max_length: usize, truncation: Truncation) -> LoadOptions {
    LoadOptions {
        sources: vec![Source::Embedded { name: "rows.jsonl", bytes: ROWS.as_bytes() }],
        format: Format::Auto,
        max_length,
        truncation,
        min_response_tokens: 0,
        template: ResolvedTemplate::Raw,
    }
}

#[test]
fn every_row_is_accounted_for() {
    let dataset = Dataset::load_with(&options(6, Truncation::Drop), words).expect("rows are left");
    let kept: Vec<_> = dataset.pairs.iter().map(|pair| pair.origin.to_string()).collect();
    assert_eq!(kept, ["rows.jsonl:1", "rows.jsonl:6"]);
    let json = serde_json::to_value(&dataset.report).expect("plain data");
    let expected = json!({
        "schema": "trl", "rows": 5, "kept": 2, "ties": 2,
        "dropped": {"empty_chosen": 1, "identical": 1, "too_long": 1},
        "truncated": 0,
        "prompt_tokens": {"min": 1, "median": 1.5, "mean": 1.5, "max": 2, "total": 3},
        "response_tokens": {"min": 1, "median": 1.0, "mean": 1.5, "max": 3, "total": 6},
    });
    assert_eq!(json, expected);
    let text = dataset.report.to_string();
    for line in ["rows 5, kept 2, dropped 3, ties 2", "too_long 1: rows.jsonl:4"] {
        assert!(text.contains(line), "{text}");
    }

    let cut = Dataset::load_with(&options(6, Truncation::KeepStart), words).expect("rows are left");
    assert_eq!((cut.report.kept, cut.report.truncated), (3, 1));
    assert_eq!(cut.pairs[1].chosen, [1, 1, 1]);
}

#[test]
fn answers_may_be_asked_to_have_tokens() {
    // Answers of 1 and 3, 3 (cut from 4) and 1, 1 and 1 tokens.
    let kept = |min_response_tokens: usize| {
        let options = LoadOptions { min_response_tokens, ..options(6, Truncation::KeepStart) };
        Dataset::load_with(&options, words)
    };
    assert_eq!(kept(1).expect("rows are left").report.kept, 3);
    let error = kept(2).expect_err("every pair has an answer of one token").to_string();
    assert!(error.contains("short_answer 3") && error.contains("lower data.min_response_tokens"), "{error}");
}

#[test]
fn rows_of_many_batches_stay_in_order_and_the_first_error_is_reported() {
    let rows = 2 * BATCH_ROWS + 10;
    let file = |broken: Option<usize>| -> Vec<Source> {
        let line = |row: usize| match broken == Some(row) {
            true => "{\n".to_owned(),
            false => format!("{{\"prompt\": \"p\", \"chosen\": \"{row}\", \"rejected\": \"no {row}\"}}\n"),
        };
        let text: String = (1..=rows).map(line).collect();
        vec![Source::Embedded { name: "many.jsonl", bytes: text.leak().as_bytes() }]
    };
    let load = |sources, refused: &[usize]| {
        let options = LoadOptions { sources, ..options(10, Truncation::Drop) };
        Dataset::load_with(&options, |row| match refused.contains(&row.origin.row) {
            true => Err(DataError::MissingFile { path: format!("row {}", row.origin.row).into() }),
            false => words(row),
        })
    };
    let dataset = load(file(None), &[]).expect("rows are left");
    assert_eq!(dataset.report.rows, rows);
    assert!(dataset.pairs.iter().map(|pair| pair.origin.row).eq(1..=rows));
    for (broken, refused, first) in [
        (None, &[BATCH_ROWS + 7, BATCH_ROWS + 3][..], BATCH_ROWS + 3),
        (Some(BATCH_ROWS + 5), &[BATCH_ROWS + 4], BATCH_ROWS + 4),
        (Some(BATCH_ROWS + 5), &[BATCH_ROWS + 6], BATCH_ROWS + 5),
    ] {
        let error = load(file(broken), refused).expect_err("a row is refused").to_string();
        let place = [format!("row {first}"), format!("many.jsonl:{first}")];
        assert!(place.iter().any(|place| error.contains(place)), "{error}");
    }
}

#[test]
fn files_of_several_layouts_and_no_rejected_answers() {
    let mut options = options(100, Truncation::Drop);
    let demonstration = br#"[{"instruction": "a", "output": "a"}]"#;
    options.sources.push(Source::Embedded { name: "sft.json", bytes: demonstration });
    let dataset = Dataset::load_with(&options, words).expect("rows are left");
    assert_eq!(dataset.report.schema, "trl, alpaca");
    let first = dataset.first_without_rejected().map(Origin::to_string);
    assert_eq!(first.as_deref(), Some("sft.json:1"));
}

#[test]
fn a_report_names_the_first_rows_of_each_reason() {
    let rows = (1..=17).map(|row| Origin { file: Path::new("a.jsonl").into(), row }).collect();
    let report = DataReport { dropped: [(DropReason::Identical, rows)].into(), ..DataReport::default() };
    let line = "identical 17: a.jsonl:1, a.jsonl:2, a.jsonl:3, a.jsonl:4, a.jsonl:5, and 12 more\n";
    assert!(report.to_string().contains(line), "{report}");
}

#[test]
fn nothing_left_is_an_error_that_counts() {
    let error = Dataset::load_with(&options(1, Truncation::Drop), words).expect_err("all too long");
    let error = error.to_string();
    for text in ["rows.jsonl", "none of 5 rows", "too_long 3, empty_chosen 1, identical 1", "max_length"] {
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn names_of_reasons_are_those_serialised() {
    use DropReason::*;
    for reason in [
        EmptyPrompt,
        EmptyChosen,
        EmptyRejected,
        Identical,
        PromptsDiffer,
        RolesDoNotAlternate,
        PromptFillsContext,
        TooLong,
    ] {
        assert_eq!(serde_json::to_value(reason).expect("a name"), reason.name());
    }
}

#[test]
fn held_out_pairs_are_a_seeded_choice_in_file_order() {
    let pair = |row| EncodedPair {
        origin: Origin { file: Path::new("a.jsonl").into(), row },
        prompt: vec![1; row],
        chosen: vec![1],
        rejected: vec![2],
    };
    let pairs: Vec<_> = (1..=20).map(pair).collect();
    let dataset = Dataset { pairs: pairs.clone(), report: DataReport::default() };
    let split = |held_out, seed| dataset.clone().split_held_out(held_out, seed);
    for (held_out, count) in [
        (HeldOut::Fraction(0.1), 2),
        (HeldOut::Fraction(0.001), 1),
        (HeldOut::Fraction(0.999), 19),
        (HeldOut::Count(7), 7),
    ] {
        let (train, held) = split(held_out, 3).expect("both parts have pairs");
        assert_eq!((train.pairs.len(), held.pairs.len()), (20 - count, count));
        assert_eq!((&train.report, &held.report), (&dataset.report, &dataset.report));
        assert!(train.pairs.is_sorted_by_key(|pair| pair.origin.row));
        assert!(held.pairs.is_sorted_by_key(|pair| pair.origin.row));
        let mut both = [train.pairs, held.pairs].concat();
        both.sort_by_key(|pair| pair.origin.row);
        assert_eq!(both, pairs);
    }
    let held = |seed| split(HeldOut::Count(7), seed).expect("both parts have pairs").1.pairs;
    assert_eq!(held(3), held(3));
    assert_ne!(held(3), held(4));
    for impossible in
        [HeldOut::Count(0), HeldOut::Count(20), HeldOut::Fraction(1.0), HeldOut::Fraction(f64::NAN)]
    {
        let error = split(impossible, 1).expect_err("a part would be empty").to_string();
        assert!(error.contains("of 20 pairs") && error.contains("hint:"), "{error}");
    }
}

#[test]
fn statistics_of_counts() {
    let statistics = |min, median, mean, max, total| TokenStatistics { min, median, mean, max, total };
    for (counts, expected) in [
        (vec![], statistics(0, 0.0, 0.0, 0, 0)),
        (vec![4], statistics(4, 4.0, 4.0, 4, 4)),
        (vec![9, 1, 2], statistics(1, 2.0, 4.0, 9, 12)),
        (vec![9, 1, 2, 4], statistics(1, 3.0, 4.0, 9, 16)),
    ] {
        assert_eq!(TokenStatistics::of(counts), expected);
    }
}
