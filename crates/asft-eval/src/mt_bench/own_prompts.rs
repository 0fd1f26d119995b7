//! Our own wording of the judge's prompts, for where the user has no file of the official ones.
//!
//! The two are different instruments: results of one are not to be compared with results of the other.

use super::prompts::{Mode, Prompt};

/// What the names of our prompts begin with, so that judgments tell them from the official ones.
pub(super) const PREFIX: &str = "asft-";

const RATE: &str = "You grade what a chat assistant wrote to a user. Judge how well it does what the user wanted: \
    whether it is right, to the point, complete, clear, and inventive where that is asked for. ";

const COMPARE: &str = "You decide which of two chat assistants, A or B, served a user better. Judge how well each \
    does what the user wanted: whether it is right, to the point, complete, clear, and inventive where that is \
    asked for. The order in which the two are shown means nothing, and neither do their length or their names. ";

const CHECK: &str = "A reference answer is given. First compare with it, and point out every mistake. ";

const SECOND: &str =
    "Grade only what was written in the second turn; the first turn is there to be understood. ";

const RATING: &str = "Give your reasons in a few sentences. Then end with one line that holds a grade from 1 (useless) \
    to 10 (could not be better) in double brackets, in the form \"[[rating]]\", for instance \"Rating: [[5]]\".";

const CHOICE: &str = "Give your reasons in a few sentences. Then end with one line that holds your choice in double \
    brackets: \"[[A]]\" if A is better, \"[[B]]\" if B is better, \"[[C]]\" if neither is.";

/// All eight.
pub(super) fn all() -> [Prompt; 8] {
    [
        prompt(Mode::Single, false, 1),
        prompt(Mode::Single, true, 1),
        prompt(Mode::Single, false, 2),
        prompt(Mode::Single, true, 2),
        prompt(Mode::Pairwise, false, 1),
        prompt(Mode::Pairwise, true, 1),
        prompt(Mode::Pairwise, false, 2),
        prompt(Mode::Pairwise, true, 2),
    ]
}

fn prompt(mode: Mode, with_reference: bool, turn: u8) -> Prompt {
    let (task, end) = match mode {
        Mode::Single => (RATE, RATING),
        Mode::Pairwise => (COMPARE, CHOICE),
    };
    let check = if with_reference { CHECK } else { "" };
    let second = if turn == 2 { SECOND } else { "" };
    let mut user = String::new();
    match (mode, turn) {
        (Mode::Single, 1) => {
            user += &section("QUESTION", "{question}");
            if with_reference {
                user += &section("REFERENCE", "{ref_answer_1}");
            }
            user += &section("ANSWER", "{answer}");
        }
        (Mode::Single, _) => {
            if with_reference {
                user += &section("REFERENCE FOR TURN 1", "{ref_answer_1}");
                user += &section("REFERENCE FOR TURN 2", "{ref_answer_2}");
            }
            user += &section("CONVERSATION", &talk("{answer_1}", "{answer_2}"));
        }
        (Mode::Pairwise, 1) => {
            user += &section("QUESTION", "{question}");
            if with_reference {
                user += &section("REFERENCE", "{ref_answer_1}");
            }
            user += &section("ANSWER OF A", "{answer_a}");
            user += &section("ANSWER OF B", "{answer_b}");
        }
        (Mode::Pairwise, _) => {
            if with_reference {
                user += &section("REFERENCE FOR TURN 1", "{ref_answer_1}");
                user += &section("REFERENCE FOR TURN 2", "{ref_answer_2}");
            }
            user += &section("CONVERSATION WITH A", &talk("{answer_a_1}", "{answer_a_2}"));
            user += &section("CONVERSATION WITH B", &talk("{answer_b_1}", "{answer_b_2}"));
        }
    }
    Prompt::new(
        &format!("{PREFIX}{}", mode.prompt_name(with_reference, turn)),
        &format!("{task}{check}{second}{end}"),
        user.trim_end(),
        mode.output_format(),
    )
}

fn section(name: &str, text: &str) -> String {
    format!("=== {name} ===\n{text}\n=== END OF {name} ===\n\n")
}

fn talk(first: &str, second: &str) -> String {
    format!("[user] {{question_1}}\n\n[assistant] {first}\n\n[user] {{question_2}}\n\n[assistant] {second}")
}
