//! `asft data inspect`.

use std::path::PathBuf;

use asft_data::{EncodedPair, Tokenizer};
use asft_train::open_checkpoint;
use clap::Args;

use crate::{failure::Failure, output, score::DataArguments};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    data: DataArguments,
    /// The model whose tokenizer and template are used.
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// Pairs to show token by token.
    #[arg(long, default_value_t = 1)]
    rows: usize,
    /// Prints the summary as one JSON object, and no rows.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let (_, tokenizer) = open_checkpoint(&arguments.model)?;
    let dataset = arguments.data.load(&tokenizer)?;
    if arguments.json {
        let summary =
            serde_json::to_string_pretty(&dataset.report).map_err(|error| Failure::Run(error.into()))?;
        return output::print(&format!("{summary}\n"));
    }
    let mut text = format!("{}\n", dataset.report);
    for pair in dataset.pairs.iter().take(arguments.rows) {
        text += &show(pair, &tokenizer);
    }
    output::print(&text)
}

/// Every token of a pair with its role and whether it is scored.
fn show(pair: &EncodedPair, tokenizer: &Tokenizer) -> String {
    let parts = [("prompt", &pair.prompt), ("chosen", &pair.chosen), ("rejected", &pair.rejected)];
    let mut text =
        format!("\n{}\n{:<9} {:<7} {:>5} {:>7}  token\n", pair.origin, "role", "scored", "at", "id");
    for (role, ids) in parts {
        let start = if role == "prompt" { 0 } else { pair.prompt.len() };
        let scored = if role == "prompt" { "no" } else { "yes" };
        for (index, &id) in ids.iter().enumerate() {
            let token = match tokenizer.is_special(id) {
                true => tokenizer.token(id).unwrap_or_default(),
                false => format!("{:?}", tokenizer.decode(&[id], false).unwrap_or_default()),
            };
            text += &format!("{role:<9} {scored:<7} {:>5} {id:>7}  {token}\n", start + index);
        }
    }
    text
}
