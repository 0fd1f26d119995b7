//! Whether judgments were had against the baseline that is named.

use super::{Answers, JudgmentFile};
use crate::{EvalError, judge_behaviour::sides};

/// Fails if game 1 of a recorded judgment shows another answer A than the baseline's. Rows without a prompt, and
/// questions that the baseline did not answer, say nothing.
///
/// # Errors
/// If so, with the number of such rows.
pub(super) fn check(file: &JudgmentFile, baseline: &Answers) -> Result<(), EvalError> {
    let (mut checked, mut others) = (0, 0);
    for (_, judgment) in &file.rows {
        let prompt = &judgment.games[0].user_prompt;
        let Ok(answer) = baseline.turn(&judgment.question_id, 0) else { continue };
        if prompt.is_empty() {
            continue;
        }
        checked += 1;
        others += usize::from(match sides(prompt) {
            Ok((a, _)) => a.trim() != answer.content.trim(),
            Err(_) => !prompt.contains(answer.content.trim()),
        });
    }
    match others {
        0 => Ok(()),
        _ => Err(EvalError::Input(format!(
            "{}: {others} of {checked} judgments show another answer A in game 1 than that of {}: they were had \
             against another baseline\nhint: --baseline with the answers that were judged",
            file.path.display(),
            baseline.id
        ))),
    }
}
