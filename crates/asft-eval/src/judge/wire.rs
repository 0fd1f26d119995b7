//! The bodies of requests and responses: an OpenAI-compatible `chat/completions`.

use serde_json::{Map, Value, json};

use super::{Message, Params, Reply, Usage};

/// The body of a request.
pub(super) fn request(model: &str, messages: &[Message], params: &Params) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    body.insert("messages".to_owned(), json!(messages));
    body.extend(params.clone());
    Value::Object(body)
}

/// The reply in a successful response's body, or what is wrong with it.
pub(super) fn reply(body: &[u8]) -> Result<Reply, String> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|_| format!("the response is no JSON: {}", excerpt(&String::from_utf8_lossy(body))))?;
    let Some(choice) = body["choices"].get(0) else {
        return Err(match error(&body) {
            Some(message) => format!("the response has no choices: {message}"),
            None => "the response has no choices".to_owned(),
        });
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let Some(message) = choice["message"].as_object() else {
        return Err("choices[0] of the response has no message".to_owned());
    };
    let content = match message.get("content") {
        None | Some(Value::Null) => None,
        Some(Value::String(content)) => Some(content.clone()),
        Some(_) => return Err("choices[0].message.content of the response is no text".to_owned()),
    };
    let tokens = |name: &str| body["usage"][name].as_u64();
    let usage = tokens("prompt_tokens").zip(tokens("completion_tokens"));
    Ok(Reply {
        content,
        refusal: message.get("refusal").and_then(text).filter(|refusal| !refusal.is_empty()),
        finish_reason: text(&choice["finish_reason"]),
        usage: usage.map(|(prompt_tokens, completion_tokens)| Usage { prompt_tokens, completion_tokens }),
        model: text(&body["model"]),
        system_fingerprint: text(&body["system_fingerprint"]),
    })
}

/// What a response that is no success says, in one line.
pub(super) fn failure(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let message = serde_json::from_slice(body).ok().and_then(|body| error(&body));
    match message.unwrap_or_else(|| excerpt(&text)) {
        message if message.is_empty() => format!("HTTP {status}"),
        message => format!("HTTP {status}: {message}"),
    }
}

/// Whether a response says that there is no credit left, which no waiting mends.
pub(super) fn is_out_of_quota(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    [&body["error"]["code"], &body["error"]["type"], &body["code"]]
        .into_iter()
        .any(|code| code == "insufficient_quota")
}

fn error(body: &Value) -> Option<String> {
    [&body["error"]["message"], &body["error"], &body["message"], &body["detail"]]
        .into_iter()
        .find_map(Value::as_str)
        .map(excerpt)
}

/// The beginning of a text in one line.
fn excerpt(text: &str) -> String {
    const LETTERS: usize = 300;
    let mut line = String::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()) {
        if !line.is_empty() && !word.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    match line.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_model_messages_and_parameters() {
        let params =
            Params::from([("temperature".to_owned(), json!(0)), ("max_tokens".to_owned(), json!(9))]);
        assert_eq!(
            request("judge", &[Message::new("user", "hi")], &params).to_string(),
            r#"{"model":"judge","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"temperature":0}"#
        );
    }

    #[test]
    fn replies_are_read() {
        let body = json!({
            "model": "judge-1", "system_fingerprint": "fp", "usage": {"prompt_tokens": 5, "completion_tokens": 7},
            "choices": [{"message": {"role": "assistant", "content": "[[7]]", "refusal": null}, "finish_reason": "stop"}],
        });
        let read = reply(body.to_string().as_bytes()).unwrap();
        assert_eq!(read.content.as_deref(), Some("[[7]]"));
        assert_eq!(read.usage, Some(Usage { prompt_tokens: 5, completion_tokens: 7 }));
        assert_eq!((read.refusal, read.finish_reason.as_deref()), (None, Some("stop")));
        assert_eq!(
            (read.model.as_deref(), read.system_fingerprint.as_deref()),
            (Some("judge-1"), Some("fp"))
        );

        let read = reply(
            br#"{"choices":[{"message":{"content":null,"refusal":"no"}}],"usage":{"prompt_tokens":1}}"#,
        );
        let read = read.unwrap();
        assert_eq!((read.content, read.refusal.as_deref(), read.usage), (None, Some("no"), None));
    }

    #[test]
    fn what_is_no_reply_is_told() {
        for (body, message) in [
            ("<html>\n\u{1b} oops", "is no JSON: <html> oops"),
            ("[]", "has no choices"),
            (r#"{"choices":[]}"#, "has no choices"),
            (r#"{"error":{"message":"busy"}}"#, "has no choices: busy"),
            (r#"{"choices":[{}]}"#, "has no message"),
            (r#"{"choices":[{"message":{"content":[1]}}]}"#, "is no text"),
        ] {
            assert!(reply(body.as_bytes()).unwrap_err().contains(message), "{body}");
        }
    }

    #[test]
    fn failures_are_told_in_one_line() {
        assert_eq!(failure(503, b""), "HTTP 503");
        assert_eq!(failure(400, br#"{"error":{"message":"too\nlong"}}"#), "HTTP 400: too long");
        assert_eq!(failure(500, br#"{"detail":"x"}"#), "HTTP 500: x");
        assert_eq!(failure(502, "ä".repeat(400).as_bytes()), format!("HTTP 502: {}…", "ä".repeat(300)));
        assert!(is_out_of_quota(br#"{"error":{"code":"insufficient_quota"}}"#));
        assert!(!is_out_of_quota(br#"{"error":{"code":"rate_limit_exceeded"}}"#) && !is_out_of_quota(b"x"));
    }
}
