//! Recorded FastChat judgments as entries of a judge's cache.

use super::{JudgmentFile, Prompts, pair_game::winner, params, rating::rating};
use crate::{
    EvalError,
    answer_file::FASTCHAT_ERROR,
    import::{Entry, Import},
    judge::{Message, Reply},
};

/// Entries of files of ratings or pairwise judgments; texts that FastChat stores for errors are passed over.
///
/// # Errors
/// If a row was judged with a prompt that `prompts` does not have, or has no user's message.
pub fn import(files: &[JudgmentFile], prompts: &Prompts) -> Result<Import, EvalError> {
    let mut import = Import::default();
    for file in files {
        let mut add = |row: usize, judge: &(String, String), user: &str, text: &str, created: f64| {
            import.rows += 1;
            if text == FASTCHAT_ERROR {
                import.skipped += 1;
                return Ok(());
            }
            let at = |what: String| EvalError::row(&file.path, row, what);
            if user.is_empty() {
                return Err(at("the prompt is empty, so that its request is not known".to_owned()));
            }
            let prompt = prompts.named(&judge.1).map_err(|error| at(format!("judge[1]: {error}")))?;
            import.add(Entry {
                judge: judge.0.clone(),
                messages: vec![Message::new("system", prompt.system.as_str()), Message::new("user", user)],
                params: params(),
                attempt: 0,
                reply: Reply { content: Some(text.to_owned()), ..Reply::default() },
                created,
            });
            Ok(())
        };
        for (row, judgment) in &file.single {
            add(*row, &judgment.judge, &judgment.user_prompt, &judgment.judgment, judgment.tstamp)?;
        }
        for (row, pair) in &file.pairs {
            add(*row, &pair.judge, &pair.g1_user_prompt, &pair.g1_judgment, pair.tstamp)?;
            add(*row, &pair.judge, &pair.g2_user_prompt, &pair.g2_judgment, pair.tstamp)?;
        }
        import.differing.extend(differing(file));
    }
    Ok(import)
}

/// Judgments whose stored verdict is not what a fresh reading gives.
fn differing(file: &JudgmentFile) -> impl Iterator<Item = String> {
    let single = file.single.iter().filter_map(|(row, judgment)| {
        let fresh = rating(&judgment.judgment).and_then(|score| score.as_f64()).unwrap_or(-1.0);
        (fresh != judgment.rating()).then(|| {
            format!("{}:{row}: score {}, where the text says {fresh}", file.path.display(), judgment.score)
        })
    });
    let pairs = file.pairs.iter().filter_map(|(row, pair)| {
        let fresh = (winner(&pair.g1_judgment, 1), winner(&pair.g2_judgment, 2));
        (fresh != (pair.g1_winner, pair.g2_winner)).then(|| {
            format!(
                "{}:{row}: winners {:?} and {:?}, where the texts say {:?} and {:?}",
                file.path.display(),
                pair.g1_winner,
                pair.g2_winner,
                fresh.0,
                fresh.1
            )
        })
    });
    single.chain(pairs)
}
