//! As much of HTTP/1.1 as the stub needs. It is written by hand, since faults have to reach into the bytes.

use std::{
    io::{BufRead, Error, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use serde_json::Value;

const LARGEST_HEAD_BYTES: u64 = 64 << 10;
const LARGEST_BODY_BYTES: u64 = 64 << 20;

/// A request with its whole body.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub method: String,
    /// Without its query.
    pub path: String,
    pub body: Vec<u8>,
    /// Whether the client may send another one.
    pub keep_alive: bool,
}

/// Reads the next request; `None` where the connection ends before one. To a client that asks whether to go on,
/// `writer` says so.
pub(super) fn read(reader: &mut impl BufRead, mut writer: impl Write) -> std::io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(LARGEST_HEAD_BYTES);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(bad("is no request line"));
    };
    let mut keep_alive = version != "HTTP/1.0";
    let (mut length, mut expects) = (0, false);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(bad("the head does not end"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("is no header"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(|_| bad("is no length"))?,
            "transfer-encoding" => return Err(bad("only bodies with a content-length are read")),
            "expect" => expects = value.eq_ignore_ascii_case("100-continue"),
            "connection" => keep_alive &= !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    if length > LARGEST_BODY_BYTES {
        return Err(bad("the body is too long"));
    }
    if expects {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = vec![];
    if reader.by_ref().take(length).read_to_end(&mut body)? as u64 != length {
        return Err(bad("the body does not end"));
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    Ok(Some(Request { method, path, body, keep_alive }))
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// A response, perhaps a faulty one.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Before anything is sent.
    pub delay: Duration,
    /// Bytes of the body after which the connection is closed, though more are announced.
    pub close_after: Option<usize>,
}

impl Answer {
    pub fn new(status: u16, body: &[u8]) -> Self {
        Self { status, body: body.to_vec(), ..Self::default() }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { headers, ..Self::new(status, body.to_string().as_bytes()) }
    }

    /// Sends it, and says whether the connection is still open.
    pub fn write(&self, mut stream: &TcpStream) -> std::io::Result<bool> {
        let announced = match self.close_after {
            // Something has to be missing.
            Some(sent) => self.body.len().max(sent + 1),
            None => self.body.len(),
        };
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(format!("content-length: {announced}\r\n\r\n").bytes());
        let sent = self.close_after.unwrap_or(usize::MAX).min(self.body.len());
        bytes.extend(&self.body[..sent]);
        stream.write_all(&bytes)?;
        if self.close_after.is_some() {
            stream.shutdown(Shutdown::Both)?;
        }
        Ok(self.close_after.is_none())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_each_other() {
        let text = "POST /v1/x?a=b HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi\
                    GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        let (mut reader, mut said) = (text.as_bytes(), vec![]);
        let first = read(&mut reader, &mut said).unwrap().unwrap();
        let wanted =
            Request { method: "POST".into(), path: "/v1/x".into(), body: b"hi".into(), keep_alive: true };
        assert_eq!(first, wanted);
        assert_eq!(said, b"HTTP/1.1 100 Continue\r\n\r\n");
        let second = read(&mut reader, &mut said).unwrap().unwrap();
        assert!(!second.keep_alive && second.body.is_empty());
        assert_eq!(read(&mut reader, &mut said).unwrap(), None);
    }

    #[test]
    fn what_is_no_request_ends_the_connection() {
        for text in [
            "hello\r\n\r\n",
            "GET / HTTP/1.1\r\nhost",
            "GET / HTTP/1.1\r\nhost\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhi",
            "POST / HTTP/1.1\r\ncontent-length: -5\r\n\r\nhi",
            "POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\nhi",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(read(&mut text.as_bytes(), &mut vec![]).is_err(), "{text}");
        }
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(LARGEST_HEAD_BYTES as usize));
        assert!(read(&mut endless.as_bytes(), &mut vec![]).is_err());
    }
}
