//! What requests cost, before and after (EVALUATION §6.4). No prices are built in.

use std::sync::{Condvar, Mutex, MutexGuard};

use serde::Serialize;

use super::{Message, Params, Usage, max_tokens};
use crate::EvalError;

/// Prices per million tokens, in whatever currency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prices {
    input: f64,
    output: f64,
}

impl Prices {
    /// Prices of a million tokens in and out.
    ///
    /// # Errors
    /// If one is negative or no number.
    pub fn per_million(input: f64, output: f64) -> Result<Self, EvalError> {
        for (name, price) in [("--price-in", input), ("--price-out", output)] {
            if !(price >= 0.0 && price.is_finite()) {
                return Err(EvalError::Input(format!(
                    "{name}: {price} is no price\nhint: a number from 0 on"
                )));
            }
        }
        Ok(Self { input, output })
    }

    /// What these tokens cost.
    #[must_use]
    pub fn cost(&self, usage: Usage) -> f64 {
        (usage.prompt_tokens as f64 * self.input + usage.completion_tokens as f64 * self.output) / 1e6
    }
}

/// Unicode scalars of the messages.
#[must_use]
pub fn characters(messages: &[Message]) -> u64 {
    messages.iter().map(|message| message.content.chars().count() as u64).sum()
}

/// Tokens of the messages, estimated at four characters each.
#[must_use]
pub fn estimated_tokens(messages: &[Message]) -> u64 {
    characters(messages).div_ceil(4)
}

/// Keeps the account of a run, and the limit to it.
///
/// A request reserves the most it can cost by estimate. Without usage from the server the whole reservation counts
/// as spent, and so it does where a reply may have been written but did not arrive.
#[derive(Debug, Default)]
pub struct Budget {
    prices: Option<Prices>,
    limit: Option<f64>,
    account: Mutex<Account>,
    settled: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    spent: Usage,
    reserved: Usage,
    in_flight: usize,
    exhausted: bool,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Tokens in.
    pub prompt_tokens: u64,
    /// Tokens out.
    pub completion_tokens: u64,
    /// At the prices given, if any.
    pub cost: Option<f64>,
}

impl Budget {
    /// An account, at prices if there are any, with a limit if there is one.
    ///
    /// # Errors
    /// If there is a limit but no prices, or it is negative or no number.
    pub fn new(prices: Option<Prices>, limit: Option<f64>) -> Result<Self, EvalError> {
        if let Some(limit) = limit {
            if !(limit >= 0.0 && limit.is_finite()) {
                return Err(EvalError::Input(format!(
                    "--max-spend: {limit} is no amount\nhint: a number from 0 on"
                )));
            }
            if prices.is_none() {
                return Err(EvalError::Input(
                    "--max-spend needs prices\nhint: give --price-in and --price-out, per million tokens"
                        .to_owned(),
                ));
            }
        }
        Ok(Self { prices, limit, ..Self::default() })
    }

    /// Fails if there is a limit, and these parameters leave open how long a reply may be.
    ///
    /// # Errors
    /// If so.
    pub fn check(&self, params: &Params) -> Result<(), EvalError> {
        match self.limit.is_some() && max_tokens(params).is_none() {
            true => Err(EvalError::Input(
                "--max-spend needs a limit to the length of replies\nhint: do not drop max_tokens".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// What was spent so far.
    #[must_use]
    pub fn spent(&self) -> Spent {
        let Usage { prompt_tokens, completion_tokens } = self.account().spent;
        let cost = self.prices.map(|prices| prices.cost(Usage { prompt_tokens, completion_tokens }));
        Spent { prompt_tokens, completion_tokens, cost }
    }

    /// Reserves the most a request can take. If that is too much only because of others in flight, waits for them,
    /// as most take less than they reserved. `None` once the limit is reached, for this request and all later ones.
    pub(super) fn reserve(&self, most: Usage) -> Option<Reservation<'_>> {
        let mut account = self.account();
        while !account.exhausted && !self.allows(sum(sum(account.spent, account.reserved), most)) {
            match account.in_flight {
                0 => account.exhausted = true,
                _ => account = self.settled.wait(account).expect("no panic while it is held"),
            }
        }
        if account.exhausted {
            self.settled.notify_all();
            return None;
        }
        account.reserved = sum(account.reserved, most);
        account.in_flight += 1;
        Some(Reservation { budget: self, most, used: Usage::default() })
    }

    fn allows(&self, total: Usage) -> bool {
        match (self.limit, &self.prices) {
            (Some(limit), Some(prices)) => prices.cost(total) <= limit,
            _ => true,
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("no panic while it is held")
    }
}

/// What a request in flight may take; unless it is spent, it is given back.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    budget: &'a Budget,
    most: Usage,
    used: Usage,
}

impl Reservation<'_> {
    /// Spends what the server counted, or all where it did not count.
    pub fn spend(mut self, used: Option<Usage>) {
        self.used = used.unwrap_or(self.most);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut account = self.budget.account();
        account.reserved.prompt_tokens -= self.most.prompt_tokens;
        account.reserved.completion_tokens -= self.most.completion_tokens;
        account.in_flight -= 1;
        account.spent = sum(account.spent, self.used);
        self.budget.settled.notify_all();
    }
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        prompt_tokens: a.prompt_tokens.saturating_add(b.prompt_tokens),
        completion_tokens: a.completion_tokens.saturating_add(b.completion_tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tokens(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage { prompt_tokens, completion_tokens }
    }

    /// A thousand tokens in cost 1, out 2.
    fn budget(limit: f64) -> Budget {
        Budget::new(Some(Prices::per_million(1000.0, 2000.0).unwrap()), Some(limit)).unwrap()
    }

    #[test]
    fn four_characters_are_a_token() {
        let messages = [Message::new("system", "äöü"), Message::new("user", "ab")];
        assert_eq!((characters(&messages), estimated_tokens(&messages)), (5, 2));
        assert_eq!(estimated_tokens(&[]), 0);
    }

    #[test]
    fn a_request_reserves_the_most_and_spends_what_it_used() {
        let budget = budget(7.0);
        let first = budget.reserve(tokens(1000, 1000)).unwrap();
        let second = budget.reserve(tokens(1000, 1000)).unwrap();
        first.spend(Some(tokens(1000, 500)));
        assert_eq!(budget.spent().cost, Some(2.0));
        drop(second);
        assert_eq!(budget.spent(), Spent { prompt_tokens: 1000, completion_tokens: 500, cost: Some(2.0) });
        // Exactly what is left.
        budget.reserve(tokens(1000, 2000)).unwrap().spend(None);
        assert_eq!(budget.spent().cost, Some(7.0));
        assert!(budget.reserve(tokens(1, 0)).is_none());
        assert!(budget.reserve(tokens(0, 0)).is_none(), "the rest ends as well");
    }

    #[test]
    fn a_request_waits_for_those_in_flight() {
        let budget = budget(3.0);
        let first = budget.reserve(tokens(1000, 1000)).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| budget.reserve(tokens(1000, 500)).map(|held| held.spend(None)));
            first.spend(Some(tokens(1000, 0)));
            assert!(second.join().unwrap().is_some());
        });
        assert_eq!(budget.spent().cost, Some(3.0));
    }

    #[test]
    fn a_limit_needs_prices() {
        let error = Budget::new(None, Some(1.0)).unwrap_err().to_string();
        assert!(error.contains("--price-in"), "{error}");
        assert!(Prices::per_million(-1.0, 0.0).is_err() && Prices::per_million(0.0, f64::NAN).is_err());
        let free = Budget::new(None, None).unwrap();
        free.reserve(tokens(u64::MAX, 5)).unwrap().spend(None);
        assert_eq!(free.spent(), Spent { prompt_tokens: u64::MAX, completion_tokens: 5, cost: None });
    }
}
