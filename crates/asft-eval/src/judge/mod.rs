//! Asking a judge: what is asked, what comes back, and what is made of it.
//!
//! A [`JudgeRun`] has a list of [`Item`]s judged: from the [`Cache`], else by a [`Transport`], of which [`Endpoint`]
//! is the one over HTTP. [`plan()`] says beforehand what that takes. [`stub`] is a server to try it against.

mod cache;
mod canonical;
mod clock;
mod cost;
mod endpoint;
mod exchange;
mod failures;
mod limits;
mod lock;
mod plan;
mod retry;
mod retry_after;
mod run;
mod session;
mod settings;
pub mod stub;
mod transport;
mod wire;

pub use cache::{Cache, Entry, key, prompt_sha256};
pub use clock::{Clock, SystemClock, jitter};
pub use cost::{Budget, Prices, Spent, characters, estimated_tokens};
pub use endpoint::Endpoint;
pub use exchange::{Item, Message, Next, Params, Reply, Status, Usage};
pub use failures::{failures_path, write_failures};
pub use limits::Limits;
pub use plan::{Plan, plan};
pub use run::{JudgeRun, Judgment, Observer, Outcome, Recorded};
pub use settings::{MaxTokensField, Settings, Temperature, max_tokens};
pub use transport::{NoResponse, Response, Transport};
