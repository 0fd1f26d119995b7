//! MT-Bench's pairwise mode: wins, losses and ties of each model.

use std::collections::{BTreeMap, BTreeSet};

use super::{Conflict, PairJudgment, PairSummary, Winner};
use crate::repeats::{Keyed, last_valid};

/// Summaries by first appearance; equal verdicts for one model are a win, everything else a tie, and pairs with a
/// game without a verdict are left out.
pub(super) fn summaries(rows: &[&PairJudgment], conflicts: &mut Vec<Conflict>) -> Vec<PairSummary> {
    let unrepeated = last_valid(rows.iter().map(|row| Keyed {
        key: (row.model_1.as_str(), row.model_2.as_str(), row.question_id, row.turn),
        prompt: row.asked_with(),
        valid: row.is_valid(),
        row: *row,
    }));
    let mut summaries: Vec<PairSummary> = vec![];
    for (_, row) in &unrepeated.rows {
        let verdict = match (row.is_valid(), row.g1_winner, row.g2_winner) {
            (false, ..) => None,
            (true, one, two) if one == two => Some(one),
            (true, ..) => Some(Winner::Tie),
        };
        for (model, mine) in [(&row.model_1, Winner::Model1), (&row.model_2, Winner::Model2)] {
            let place = summaries.iter().position(|summary| summary.model == *model);
            let place = place.unwrap_or_else(|| {
                summaries.push(PairSummary {
                    model: model.clone(),
                    wins: 0,
                    losses: 0,
                    ties: 0,
                    win_rate_adjusted: None,
                    statuses: BTreeMap::new(),
                });
                summaries.len() - 1
            });
            let summary = &mut summaries[place];
            *summary.statuses.entry(row.status()).or_default() += 1;
            match verdict {
                None => {}
                Some(winner) if winner == mine => summary.wins += 1,
                Some(Winner::Tie) => summary.ties += 1,
                Some(_) => summary.losses += 1,
            }
        }
    }
    let (mut keys_of, mut mixed) = (BTreeMap::<&str, Vec<String>>::new(), BTreeSet::new());
    for (model_1, model_2, question, turn) in unrepeated.conflicts {
        let key = format!("question {question} turn {turn} against {model_2}");
        keys_of.entry(model_1).or_default().push(key);
        mixed.extend([model_1, model_2]);
    }
    for summary in &mut summaries {
        let n = summary.wins + summary.losses + summary.ties;
        summary.win_rate_adjusted = (n > 0 && !mixed.contains(summary.model.as_str()))
            .then(|| (summary.wins as f64 + summary.ties as f64 / 2.0) / n as f64);
    }
    conflicts.extend(keys_of.into_iter().map(|(model, keys)| Conflict { model: model.to_owned(), keys }));
    summaries
}
