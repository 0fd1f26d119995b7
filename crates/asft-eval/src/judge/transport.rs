//! What carries a request to a judge and brings the response back.

use serde_json::Value;

/// Sends one request, once.
pub trait Transport: Sync {
    /// Sends `body` and waits for the whole response.
    ///
    /// # Errors
    /// If there is no whole response, whatever its status.
    fn send(&self, body: &Value) -> Result<Response, NoResponse>;
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoResponse {
    /// The server was never reached, so that it cannot have done (or charged) anything.
    #[error("the judge cannot be reached: {0}")]
    Unreachable(String),
    /// The time for a request is over.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke after the server was reached.
    #[error("the connection broke: {0}")]
    Broken(String),
}
