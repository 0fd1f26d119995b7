//! Games as they count: what the model won, and how often.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{EvalError, schema::Kind};

/// A game, or several battles of one outcome, of a model against the baseline.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) question: String,
    pub(super) model: String,
    /// 0, ½ or 1.
    pub(super) points: f64,
    /// How many rows it counts as.
    pub(super) weight: u32,
}

/// Who won a battle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Winner {
    /// The baseline.
    #[serde(rename = "model_a")]
    ModelA,
    /// The model.
    #[serde(rename = "model_b")]
    ModelB,
    /// Neither.
    #[serde(rename = "tie", alias = "tie (bothbad)")]
    Tie,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Battle {
    question_id: String,
    model_a: String,
    model_b: String,
    winner: Winner,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A file of battles, in which a strong verdict stands three times.
#[derive(Clone, Debug, PartialEq)]
pub struct BattleFile {
    /// Where it was read.
    pub path: PathBuf,
    rows: Vec<(usize, Battle)>,
}

impl BattleFile {
    /// Reads a file of battles.
    ///
    /// # Errors
    /// If it cannot be read, is empty or holds something else.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        Ok(Self { path: path.to_owned(), rows: Kind::Battle.rows(path)? })
    }

    /// The battles in their order.
    pub(super) fn outcomes(&self, baseline: &str) -> Result<Vec<Outcome>, EvalError> {
        let outcome = |(row, battle): &(usize, Battle)| {
            if battle.model_a != baseline || battle.model_b == baseline {
                let what = format!(
                    "model_a: {} played against {}, where the baseline is {baseline}\nhint: --baseline",
                    battle.model_b, battle.model_a
                );
                return Err(EvalError::row(&self.path, *row, what));
            }
            Ok(Outcome {
                question: battle.question_id.clone(),
                model: battle.model_b.clone(),
                points: match battle.winner {
                    Winner::ModelA => 0.0,
                    Winner::ModelB => 1.0,
                    Winner::Tie => 0.5,
                },
                weight: 1,
            })
        };
        self.rows.iter().map(outcome).collect()
    }
}
