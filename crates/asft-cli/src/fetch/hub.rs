//! The Hugging Face hub: which files a repository has, at which revision.
//!
//! Spoken to directly: the `hf-hub` crate takes neither certificates nor `HF_TOKEN` from the environment and
//! does not check what it downloads.

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    FetchError,
    catalogue::{Kind, Source},
    download::{Client, Request, shown},
};

/// The hub or a mirror of it.
pub(super) struct Hub {
    /// Address without a slash at the end.
    pub endpoint: String,
    pub token: Option<String>,
}

/// The files of a repository that are wanted.
pub(super) struct Listing {
    /// Address and revision, for the manifest.
    pub origin: String,
    pub files: Vec<ListedFile>,
}

/// One of them.
pub(super) struct ListedFile {
    /// Path below the destination.
    pub path: String,
    pub request: Request,
}

#[derive(Deserialize)]
struct Repository {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Hub {
    /// `HF_ENDPOINT`, and the token of `HF_TOKEN` or of `huggingface-cli login`.
    pub fn from_env() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = set("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cache").join("huggingface")));
        let stored = || std::fs::read_to_string(home?.join("token")).ok();
        let token = set("HF_TOKEN").or_else(stored).map(|token| token.trim().to_owned());
        Self {
            endpoint: set("HF_ENDPOINT")
                .unwrap_or("https://huggingface.co".into())
                .trim_end_matches('/')
                .to_owned(),
            token: token.filter(|token| !token.is_empty()),
        }
    }

    /// Asks which of the repository's files `source` wants, all at the newest revision.
    pub fn list(&self, source: &Source, client: &Client) -> Result<Listing, FetchError> {
        let (collection, prefix) = match source.kind {
            Kind::Model => ("models", ""),
            Kind::Data(_) => ("datasets", "datasets/"),
        };
        let (endpoint, name) = (&self.endpoint, &source.repository);
        let url = format!("{endpoint}/api/{collection}/{name}/revision/main?blobs=true");
        let text = client.text(&url, self.token.as_deref(), "application/json")?;
        let damaged = |what: String| FetchError::Listing { url: shown(&url), what };
        let repository: Repository =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if !repository.sha.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(damaged(format!("the revision is {:?}", repository.sha)));
        }
        let page = format!("{endpoint}/{prefix}{name}");
        let files = repository.siblings.iter().filter_map(|sibling| {
            let path = source.local_name(&sibling.rfilename)?.to_owned();
            let url = format!("{page}/resolve/{}/{}", repository.sha, sibling.rfilename);
            let (bytes, sha256) = match &sibling.lfs {
                Some(lfs) => (Some(lfs.size), Some(lfs.sha256.to_ascii_lowercase())),
                None => (sibling.size, None),
            };
            Some(ListedFile { path, request: Request { url, token: self.token.clone(), bytes, sha256 } })
        });
        let files = files.collect();
        Ok(Listing { origin: format!("{} at {}", shown(&page), repository.sha), files })
    }
}
