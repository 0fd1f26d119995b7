//! Recorded Arena-Hard games as entries of a judge's cache.

use super::{JudgeConfig, JudgmentFile, params, verdict::Verdict};
use crate::{
    EvalError,
    import::{Entry, Import},
    judge::{Message, Reply},
};

/// Entries of files of judgments; games without a score are passed over.
///
/// # Errors
/// If a game has no prompt.
pub fn import(files: &[JudgmentFile], config: &JudgeConfig) -> Result<Import, EvalError> {
    let mut import = Import::default();
    for file in files {
        for (row, judgment) in &file.rows {
            for (number, game) in [1, 2].into_iter().zip(&judgment.games) {
                import.rows += 1;
                let Some(score) = &game.score else {
                    import.skipped += 1;
                    continue;
                };
                if game.user_prompt.is_empty() {
                    let what = format!(
                        "games[{}]: the prompt is empty, so that its request is not known",
                        number - 1
                    );
                    return Err(EvalError::row(&file.path, *row, what));
                }
                let text = game.judgment.strip_prefix('\n').unwrap_or(&game.judgment);
                let fresh = match config.pattern.read(text) {
                    Verdict::One(label) => label,
                    Verdict::None => "nothing".to_owned(),
                    Verdict::Several => "several labels".to_owned(),
                };
                if fresh != *score {
                    import.differing.push(format!(
                        "{}:{row}: game {number}: score {score}, where the text says {fresh}",
                        file.path.display()
                    ));
                }
                import.add(Entry {
                    judge: file.judge(judgment).to_owned(),
                    messages: vec![
                        Message::new("system", config.system.as_str()),
                        Message::new("user", game.user_prompt.as_str()),
                    ],
                    params: params(),
                    attempt: 0,
                    reply: Reply { content: Some(text.to_owned()), ..Reply::default() },
                    created: 0.0,
                });
            }
        }
    }
    Ok(import)
}
