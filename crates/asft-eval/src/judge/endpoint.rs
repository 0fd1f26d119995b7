//! A judge behind HTTP, and the key to it.

use std::{fmt, io::Read, net::IpAddr, time::Duration};

use serde_json::Value;
use ureq::{
    Agent, SendBody,
    http::{HeaderValue, Uri},
    tls::{RootCerts, TlsConfig},
};

use super::{NoResponse, Response, Transport};
use crate::EvalError;

/// The address of an OpenAI-compatible server.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    agent: Agent,
    key: Option<Key>,
}

const LARGEST_RESPONSE_BYTES: u64 = 16 << 20;
const IDLE_CONNECTIONS: usize = 64;

impl Endpoint {
    /// The server whose addresses begin with `base` (`https://HOST/v1`), with the key that the environment
    /// variable `key_variable` holds, and the most time that a request may take.
    ///
    /// # Errors
    /// If the address is none or has a user or query in it, the key is missing where one is needed, or would go
    /// unencrypted to another machine.
    pub fn new(base: &str, key_variable: &str, timeout: Duration) -> Result<Self, EvalError> {
        let key = match std::env::var(key_variable) {
            Ok(key) => Some(key),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => return Err(bad_key(key_variable)),
        };
        Self::with_key(base, key_variable, key, timeout)
    }

    fn with_key(
        base: &str,
        key_variable: &str,
        key: Option<String>,
        timeout: Duration,
    ) -> Result<Self, EvalError> {
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        let key = key.map(|key| Key::new(key).ok_or_else(|| bad_key(key_variable))).transpose()?;
        let (https, loopback) = location(base)
            .map_err(|(what, hint)| EvalError::Input(format!("the judge's base URL {what}\nhint: {hint}")))?;
        match (&key, https) {
            (None, true) if !loopback => {
                return Err(EvalError::Input(format!(
                    "the judge at {base} needs a key, and {key_variable} is not set\nhint: set it, or name another \
                     variable with --api-key-env"
                )));
            }
            (Some(_), false) if !loopback => {
                return Err(EvalError::Input(format!(
                    "the key in {key_variable} would go to {base} unencrypted\nhint: use https, or name a variable \
                     that is not set with --api-key-env if the server needs no key"
                )));
            }
            _ => {}
        }
        if timeout.is_zero() {
            return Err(EvalError::Input("the time for a request must be above 0 s".to_owned()));
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let mut agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // A request goes where it was sent, and so does the key.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Every worker keeps its connection.
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .user_agent(concat!("asft/", env!("CARGO_PKG_VERSION")))
            // From the look-up of the name to the last byte of the response.
            .timeout_global(Some(timeout));
        if loopback {
            agent = agent.proxy(None);
        }
        let url = format!("{}/chat/completions", base.trim_end_matches('/'));
        Ok(Self { url, agent: agent.build().into(), key })
    }
}

/// Whether an address is https, and whether it is this machine; or what is wrong with it and what to do.
fn location(base: &str) -> Result<(bool, bool), (String, &'static str)> {
    const FORM: &str = "it looks like https://HOST/v1";
    // Not shown: what is wrong may be a password in it.
    let uri: Uri = base.parse().map_err(|_| ("is no address".to_owned(), FORM))?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(("has neither https:// nor http://".to_owned(), FORM)),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err((
            "has a user in it".to_owned(),
            "put the key into the variable that --api-key-env names",
        ));
    }
    if base.contains(['?', '#']) {
        return Err((
            "has a query in it".to_owned(),
            "only the part before /chat/completions; further fields go into judge.extra",
        ));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if host.is_empty() {
        return Err(("names no host".to_owned(), FORM));
    }
    let port = authority.rsplit_once(uri.host().unwrap_or_default()).map_or("", |(_, port)| port);
    if !port.is_empty() && uri.port_u16().is_none() {
        return Err(("has no port from 0 to 65535 behind its colon".to_owned(), FORM));
    }
    let loopback = host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    Ok((https, loopback))
}

fn bad_key(variable: &str) -> EvalError {
    EvalError::Input(format!(
        "{variable} holds no key: it has characters that cannot be sent\nhint: a key is one word of plain letters"
    ))
}

impl Transport for Endpoint {
    fn send(&self, body: &Value) -> Result<Response, NoResponse> {
        let text = body.to_string();
        let mut outgoing = Outgoing { rest: text.as_bytes(), begun: false };
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("content-length", text.len())
            .header("accept", "application/json")
            .header("accept-encoding", "identity");
        if let Some(key) = &self.key {
            request = request.header("authorization", key.header());
        }
        let response = request.send(SendBody::from_reader(&mut outgoing));
        let response = response.map_err(|error| no_response(error, outgoing.begun))?;
        let status = response.status().as_u16();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = header.map(str::to_owned);
        let mut body = vec![];
        let mut reader = response.into_body().into_reader().take(LARGEST_RESPONSE_BYTES + 1);
        reader.read_to_end(&mut body).map_err(|error| no_response(ureq::Error::from(error), true))?;
        if body.len() as u64 > LARGEST_RESPONSE_BYTES {
            return Err(NoResponse::Broken("the response is longer than 16 MiB".to_owned()));
        }
        if let Some(key) = &self.key {
            body = key.hidden_in(body);
        }
        Ok(Response { status, retry_after, body })
    }
}

/// A body on its way. It is read only once there is a connection and the head of the request has been sent, so that one
/// that was not begun reached nobody, whatever the error is.
struct Outgoing<'a> {
    rest: &'a [u8],
    begun: bool,
}

impl Read for Outgoing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.begun = true;
        self.rest.read(buffer)
    }
}

fn no_response(error: ureq::Error, begun: bool) -> NoResponse {
    use std::io::ErrorKind::TimedOut;
    match (error, begun) {
        (ureq::Error::Timeout(_), false) => NoResponse::Unreachable("no connection in time".to_owned()),
        (error, false) => NoResponse::Unreachable(error.to_string()),
        (ureq::Error::Timeout(_), true) => NoResponse::TimedOut,
        (ureq::Error::Io(error), true) if error.kind() == TimedOut => NoResponse::TimedOut,
        (error, true) => NoResponse::Broken(error.to_string()),
    }
}

/// Shows itself to nobody but the server.
struct Key(String);

impl Key {
    /// Local servers are often given placeholders as keys (`EMPTY`). Words so short are no secrets, and taking them
    /// out of replies would spoil those.
    const SECRET_FROM_BYTES: usize = 8;

    fn new(key: String) -> Option<Self> {
        key.bytes().all(|byte| byte.is_ascii_graphic()).then_some(Self(key))
    }

    fn header(&self) -> HeaderValue {
        let mut header =
            HeaderValue::try_from(format!("Bearer {}", self.0)).expect("plain letters make a header");
        header.set_sensitive(true);
        header
    }

    /// What a server sent, without the key, should it send it back.
    fn hidden_in(&self, text: Vec<u8>) -> Vec<u8> {
        if self.0.len() < Self::SECRET_FROM_BYTES {
            return text;
        }
        let json = Value::from(self.0.as_str()).to_string();
        let json = json.trim_matches('"');
        [self.0.as_str(), json, &json.replace('/', "\\/")]
            .into_iter()
            .fold(text, |text, form| replaced(text, form.as_bytes(), b"[key]"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key([hidden])")
    }
}

fn replaced(text: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let mut rest = text.as_slice();
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    if out.is_empty() {
        return text;
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        time::Instant,
    };

    use serde_json::json;

    use super::*;

    const SECRET: &str = "sk-Zm9v/YmFy-0123456789";
    const SECOND: Duration = Duration::from_secs(1);

    fn endpoint(base: &str, key: Option<&str>) -> Result<Endpoint, EvalError> {
        Endpoint::with_key(base, "JUDGE_KEY", key.map(str::to_owned), SECOND)
    }

    /// A server that reads one request and then does what it is told.
    fn server(then: impl FnOnce(TcpStream, String) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/v1/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut seen = vec![];
            while !seen.ends_with(b"}") {
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).unwrap();
                seen.extend_from_slice(&buffer[..read]);
            }
            then(stream, String::from_utf8(seen).unwrap());
        });
        base
    }

    #[test]
    fn a_key_goes_only_where_it_is_safe() {
        for (base, key, message) in [
            ("https://api.example.com/v1", Some(SECRET), ""),
            ("https://api.example.com/v1", None, "needs a key, and JUDGE_KEY is not set"),
            ("https://api.example.com/v1", Some(" \n"), "needs a key"),
            ("http://api.example.com/v1", Some(SECRET), "would go to http://api.example.com/v1 unencrypted"),
            ("http://127.0.0.1.example.com", Some(SECRET), "unencrypted"),
            ("http://10.0.0.2:8000", None, ""),
            ("http://127.0.0.1:8000/v1/", Some(SECRET), ""),
            ("http://LOCALHOST:8000", Some(SECRET), ""),
            ("http://[::1]:8000", Some(SECRET), ""),
            ("http://127.9.9.9", None, ""),
            ("http://127.0.0.1@example.com", Some(SECRET), "has a user in it"),
            ("https://example.com/?key=1", Some(SECRET), "has a query in it"),
            ("example.com/v1", Some(SECRET), "is no address"),
            ("example.com", Some(SECRET), "neither https:// nor http://"),
            ("ftp://example.com", Some(SECRET), "neither https:// nor http://"),
            ("http://127.0.0.1:99999/v1", None, "has no port"),
            ("http://[::1]:x/v1", None, "has no port"),
            ("https://", Some(SECRET), "is no address"),
            ("https://example.com", Some("two words"), "JUDGE_KEY holds no key"),
            ("https://example.com", Some("schlüssel"), "JUDGE_KEY holds no key"),
        ] {
            match endpoint(base, key) {
                Ok(endpoint) => {
                    assert_eq!(message, "", "{base} {key:?}");
                    assert!(!format!("{endpoint:?}").contains(SECRET));
                }
                Err(error) => {
                    let text = format!("{error} {error:?}");
                    assert!(
                        !message.is_empty() && text.contains(message) && error.is_input(),
                        "{base}: {text}"
                    );
                    assert!(key.is_none_or(|key| key.trim().is_empty() || !text.contains(key)), "{text}");
                }
            }
        }
        assert!(Endpoint::with_key("http://[::1]", "K", None, Duration::ZERO).is_err());
    }

    #[test]
    fn one_post_and_its_response() {
        let (sender, seen) = std::sync::mpsc::channel();
        let base = server(move |mut stream, request| {
            sender.send(request).unwrap();
            let body = format!(r#"no such key: {SECRET} {}"#, SECRET.replace('/', "\\/"));
            write!(
                stream,
                "HTTP/1.1 429 Busy\r\nRetry-After: 7\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        });
        let endpoint = endpoint(&base, Some(&format!("{SECRET}\n"))).unwrap();
        let response = endpoint.send(&json!({"model": "é"})).unwrap();
        let body = b"no such key: [key] [key]".to_vec();
        assert_eq!(response, Response { status: 429, retry_after: Some("7".to_owned()), body });
        let request = seen.recv().unwrap();
        assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("authorization: Bearer {SECRET}\r\n")), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"model\":\"é\"}"), "{request}");
    }

    #[test]
    fn placeholders_are_no_secrets() {
        let key = Key::new("EMPTY".to_owned()).unwrap();
        assert_eq!(key.hidden_in(b"The answer is EMPTY.".to_vec()), b"The answer is EMPTY.");
    }

    #[test]
    fn a_redirect_is_not_followed() {
        let base = server(|mut stream, _| {
            write!(
                stream,
                "HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            )
            .unwrap();
        });
        assert_eq!(endpoint(&base, None).unwrap().send(&json!({})).unwrap().status, 307);
    }

    #[test]
    fn no_server_can_hold_a_request_beyond_its_time() {
        let silent = server(|_stream, _| std::thread::sleep(60 * SECOND));
        let dripping = server(|mut stream, _| {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").unwrap();
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(SECOND / 50);
            }
        });
        for base in [silent, dripping] {
            let endpoint = Endpoint::with_key(&base, "K", None, SECOND / 4).unwrap();
            let start = Instant::now();
            assert_eq!(endpoint.send(&json!({})), Err(NoResponse::TimedOut));
            assert!(start.elapsed() < 20 * SECOND);
        }
    }

    #[test]
    fn broken_connections_and_closed_ports_differ() {
        let base = server(|mut stream, _| {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
        });
        let broken = endpoint(&base, None).unwrap().send(&json!({}));
        assert!(matches!(broken, Err(NoResponse::Broken(_))), "{broken:?}");
        // The port was free a moment ago, so that nothing answers there.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = endpoint(&format!("http://{closed}"), None).unwrap().send(&json!({}));
        assert!(matches!(refused, Err(NoResponse::Unreachable(_))), "{refused:?}");
    }

    #[test]
    fn what_was_never_sent_reached_nobody() {
        // One that speaks no TLS, one that says nothing, and a name that no server may have (RFC 6761).
        let plain = server_of_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let silent = server_of_bytes(b"");
        let mut bases = vec![format!("https://{plain}"), format!("https://{silent}")];
        // A proxy looks names up itself.
        if ureq::Proxy::try_from_env().is_none() {
            bases.push("http://judge.invalid/v1".to_owned());
        }
        for base in bases {
            let sent = endpoint(&base, None).unwrap().send(&json!({}));
            assert!(matches!(sent, Err(NoResponse::Unreachable(_))), "{base}: {sent:?}");
        }
    }

    /// A server that says this, whatever it is sent, and then waits.
    fn server_of_bytes(bytes: &'static [u8]) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(bytes).unwrap();
            std::thread::sleep(60 * SECOND);
        });
        address
    }
}
