//! HTTP: small answers into memory, files to disk with progress, resumption and a checksum.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::{
    Agent,
    config::RedirectAuthHeaders,
    http::{Response, StatusCode},
    tls::{RootCerts, TlsConfig},
};

use super::FetchError;
use crate::output::note;

/// One file to download.
pub(super) struct Request {
    pub url: String,
    /// A bearer token; not sent on to other hosts.
    pub token: Option<String>,
    /// Size, where it is published.
    pub bytes: Option<u64>,
    /// Lower-case hexadecimal, where it is published.
    pub sha256: Option<String>,
}

/// An HTTP client that honours the system's proxies and certificates.
pub(super) struct Client {
    agent: Agent,
    /// Waits before each further attempt.
    pauses: Vec<Duration>,
}

/// How an attempt failed.
enum Failure {
    /// Another attempt may go better.
    Passing(String),
    Final(FetchError),
}

const SMALL_ANSWER_BYTES: u64 = 64 << 20;

impl Client {
    /// With the waits before each further attempt; small answers get one more attempt at most.
    pub fn new(pauses: Vec<Duration>) -> Self {
        // Certificates from the system and SSL_CERT_FILE: company proxies have their own.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("asft/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .into();
        Self { agent, pauses }
    }

    /// The body of a small answer.
    pub fn text(&self, url: &str, token: Option<&str>, accept: &str) -> Result<String, FetchError> {
        self.attempts(url, &self.pauses[..self.pauses.len().min(1)], || {
            let response = self.get(url, token, Some(accept), 0)?;
            let mut body = String::new();
            let mut reader = response.into_body().into_reader().take(SMALL_ANSWER_BYTES);
            reader.read_to_string(&mut body).map_err(|error| Failure::Passing(error.to_string()))?;
            Ok(body)
        })
    }

    /// Writes the file to `path`, which is new, and gives its size and sha256.
    pub fn download(&self, request: &Request, path: &Path) -> Result<(u64, String), FetchError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bar = progress(&name, request.bytes);
        let mut file = File::create(path).map_err(FetchError::io(path))?;
        let mut hash = Sha256::new();
        let mut done = 0;
        self.attempts(&request.url, &self.pauses, || {
            let response = self.get(&request.url, request.token.as_deref(), None, done)?;
            if response.status() != StatusCode::PARTIAL_CONTENT && done > 0 {
                // The server cannot go on in the middle.
                file = File::create(path).map_err(|error| Failure::Final(FetchError::io(path)(error)))?;
                hash = Sha256::new();
                done = 0;
            }
            if bar.length().is_none()
                && let Some(length) = response.body().content_length()
            {
                bar.set_length(done + length);
            }
            let mut reader = response.into_body().into_reader();
            let mut buffer = vec![0; 1 << 18];
            loop {
                bar.set_position(done);
                let read = reader.read(&mut buffer).map_err(|error| Failure::Passing(error.to_string()))?;
                if read == 0 {
                    break;
                }
                file.write_all(&buffer[..read])
                    .map_err(|error| Failure::Final(FetchError::io(path)(error)))?;
                hash.update(&buffer[..read]);
                done += read as u64;
            }
            match request.bytes {
                Some(bytes) if done < bytes => {
                    Err(Failure::Passing(format!("ended after {done} of {bytes} bytes")))
                }
                _ => Ok(()),
            }
        })?;
        file.sync_all().map_err(FetchError::io(path))?;
        bar.finish_and_clear();
        let sha256 = hexadecimal(&hash.finalize());
        let mismatch =
            |what, found, wanted| FetchError::Mismatch { url: shown(&request.url), what, found, wanted };
        match (&request.bytes, &request.sha256) {
            (Some(bytes), _) if *bytes != done => Err(mismatch("size", done.to_string(), bytes.to_string())),
            (_, Some(wanted)) if *wanted != sha256 => Err(mismatch("sha256", sha256, wanted.clone())),
            _ => {
                note!("{name}  {}", HumanBytes(done));
                Ok((done, sha256))
            }
        }
    }

    /// Attempts until one succeeds, fails for good, or the pauses are used up.
    fn attempts<T>(
        &self,
        url: &str,
        pauses: &[Duration],
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, FetchError> {
        let mut pauses = pauses.iter();
        loop {
            match (attempt(), pauses.next()) {
                (Ok(value), _) => return Ok(value),
                (Err(Failure::Final(error)), _) => return Err(error),
                (Err(Failure::Passing(_)), Some(pause)) => std::thread::sleep(*pause),
                (Err(Failure::Passing(what)), None) => {
                    return Err(FetchError::Unreachable { url: shown(url), what });
                }
            }
        }
    }

    /// A successful response, from byte `from` on if the server can do that.
    fn get(
        &self,
        url: &str,
        token: Option<&str>,
        accept: Option<&str>,
        from: u64,
    ) -> Result<Response<ureq::Body>, Failure> {
        // Compression on the way would hide sizes and make offsets ambiguous.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let unreachable = |what: String| FetchError::Unreachable { url: shown(url), what };
        let response = request.call().map_err(|error| match error {
            ureq::Error::HostNotFound
            | ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::Rustls(_)
            | ureq::Error::Tls(_)
            | ureq::Error::TooManyRedirects => Failure::Final(unreachable(error.to_string())),
            error => Failure::Passing(error.to_string()),
        })?;
        let status = response.status().as_u16();
        match status {
            200..300 => Ok(response),
            401 | 403 => Err(Failure::Final(FetchError::Refused { url: shown(url), status })),
            408 | 429 | 500.. => Err(Failure::Passing(format!("HTTP {status}"))),
            _ => Err(Failure::Final(FetchError::NotFound { url: shown(url), status })),
        }
    }
}

/// Drawn only where stderr is a terminal.
fn progress(name: &str, bytes: Option<u64>) -> ProgressBar {
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::no_length(),
    };
    let template = "{msg}  {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(name.to_owned())
}

/// `url` without user and password.
pub(super) fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
            format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or(host))
        }
        None => url.to_owned(),
    }
}

/// Lower-case digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
