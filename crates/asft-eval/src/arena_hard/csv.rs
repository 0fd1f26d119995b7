//! The table that leaderboards of v0.1 publish.

use super::{Summary, show::two_decimals};

/// A row for each model with a score and one for the baseline, from the best to the worst, with the interval of
/// v0.1; lengths that are not known stay empty.
#[must_use]
pub fn csv(summary: &Summary, baseline_tokens: Option<u64>, date: &str) -> String {
    let models = summary
        .models
        .iter()
        .filter_map(|model| Some((model.model.as_str(), model.score?, model.ci95_v01?, model.avg_tokens)));
    let mut rows: Vec<_> =
        models.chain([(summary.baseline.as_str(), 50.0, [50.0, 50.0], baseline_tokens)]).collect();
    rows.sort_by(|one, two| two.1.total_cmp(&one.1));
    let mut text = "model,score,rating_q025,rating_q975,CI,avg_tokens,date\n".to_owned();
    for (model, score, [low, high], tokens) in rows {
        let [score, low, high] = [score, low, high].map(two_decimals);
        let tokens = tokens.map(|tokens| format!("{:?}", tokens as f64)).unwrap_or_default();
        text += &format!(
            "{},{score:?},{low:?},{high:?},\"(-{:.2}, +{:.2})\",{tokens},{}\n",
            field(model),
            (score - low).abs(),
            (high - score).abs(),
            field(date)
        );
    }
    text
}

fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
