//! What a run would take, with nothing sent.

use std::collections::HashSet;

use serde::Serialize;

use super::{Cache, Item, Next, Params, Prices, Usage, characters, estimated_tokens, key, max_tokens};

/// What a run would take (EVALUATION §6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Requests to be sent. Attempts after a reply that is not there yet are not among them.
    pub calls: u64,
    /// Replies that are in the cache, or would be by then.
    pub cache_hits: u64,
    /// Unicode scalars of all messages to be sent.
    pub characters: u64,
    /// Tokens of these, estimated.
    pub prompt_tokens: u64,
    /// Tokens of the replies, as expected.
    pub completion_tokens_expected: u64,
    /// Tokens of the replies at worst.
    pub completion_tokens_worst: u64,
    /// What it costs as expected, with prices.
    pub cost_expected: Option<f64>,
    /// What it costs at worst, with prices.
    pub cost_worst: Option<f64>,
}

/// What a run would take: `judge` and `params` as in [`super::JudgeRun`], `reply_tokens` the expected length of a
/// reply.
#[must_use]
pub fn plan(
    items: &[impl Item],
    judge: &str,
    params: &Params,
    cache: &Cache,
    reply_tokens: u64,
    prices: Option<Prices>,
) -> Plan {
    let worst = max_tokens(params).unwrap_or(reply_tokens);
    let mut plan = Plan::default();
    let mut asked = HashSet::new();
    for item in items {
        let mut replies = vec![];
        while let Next::Ask(messages) = item.next(&replies) {
            let key = key(judge, &messages, params, replies.len());
            if let Some(entry) = cache.get(&key) {
                plan.cache_hits += 1;
                replies.push(entry.reply);
                continue;
            }
            if asked.insert(key) {
                plan.calls += 1;
                plan.characters += characters(&messages);
                plan.prompt_tokens += estimated_tokens(&messages);
                plan.completion_tokens_expected += reply_tokens.min(worst);
                plan.completion_tokens_worst += worst;
            } else {
                plan.cache_hits += 1;
            }
            break;
        }
    }
    let cost = |completion_tokens| {
        prices.map(|prices| prices.cost(Usage { prompt_tokens: plan.prompt_tokens, completion_tokens }))
    };
    Plan {
        cost_expected: cost(plan.completion_tokens_expected),
        cost_worst: cost(plan.completion_tokens_worst),
        ..plan
    }
}
