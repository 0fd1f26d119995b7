//! What was had from a judge for one item, as judgment files keep it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    EvalError,
    judge::{Params, Reply, Status, Usage},
    sha256::sha256_hex,
};

/// What was had for one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The replies, in the order of the requests.
    pub replies: Vec<Reply>,
    /// What became of it.
    pub status: Status,
    /// When the last reply was had, in seconds.
    pub created: f64,
    /// Where it is from.
    pub source: Option<String>,
    /// What was sent beside the messages; empty where that is not known.
    pub params: Params,
}

impl Judged {
    /// Whether the judge replied to the end, so that there is something to write.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self.status, Status::ApiError | Status::Budget | Status::Missing)
    }

    /// The text of a reply; empty where the server sent none.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.replies.iter().map(|reply| reply.content.as_deref().unwrap_or_default())
    }

    /// What is kept beside a verdict on `user_prompt`, which was made with the prompt of this hash.
    #[must_use]
    pub fn meta(&self, user_prompt: &str, template_sha256: &str) -> Meta {
        let last = self.replies.last();
        let usages: Vec<Usage> = self.replies.iter().filter_map(|reply| reply.usage).collect();
        Meta {
            status: self.status,
            prompt_sha256: Some(sha256_hex(user_prompt)),
            finish_reason: last.and_then(|reply| reply.finish_reason.clone()),
            usage: (!usages.is_empty()).then(|| Usage {
                prompt_tokens: usages.iter().map(|usage| usage.prompt_tokens).sum(),
                completion_tokens: usages.iter().map(|usage| usage.completion_tokens).sum(),
            }),
            attempts: self.replies.len(),
            source: self.source.clone(),
            template_sha256: Some(template_sha256.to_owned()),
            params: self.params.clone(),
        }
    }
}

/// The hash of a judge's prompt: of system message, NUL and template, all before a field is filled.
pub(crate) fn template_sha256(system: &str, template: &str) -> String {
    sha256_hex(&format!("{system}\0{template}"))
}

/// The one object that judgment files have beyond the fields of other programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// What became of the item.
    pub status: Status,
    /// Hash of the user's message.
    #[serde(default)]
    pub prompt_sha256: Option<String>,
    /// Why the last reply ended.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// Tokens of all requests for it.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Replies it took.
    #[serde(default)]
    pub attempts: usize,
    /// Where the replies are from.
    #[serde(default)]
    pub source: Option<String>,
    /// Hash of system message, NUL and template of the prompt, which tells whether it is the official one.
    #[serde(default)]
    pub template_sha256: Option<String>,
    /// What was sent beside the messages (`temperature`, `max_tokens`, …).
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
}

/// What is to be said of the settings that judgments were made with: nothing where all were made alike and at
/// temperature 0, as both protocols want it, and nothing of files that do not tell.
pub(crate) fn settings<'a>(metas: impl Iterator<Item = &'a Option<Meta>>) -> Option<String> {
    let known = metas.flatten().map(|meta| &meta.params).filter(|params| !params.is_empty());
    let known: BTreeMap<String, &Params> = known.map(|params| (in_words(params), params)).collect();
    let temperature = known.values().find_map(|params| params.get("temperature")?.as_f64());
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    match names.as_slice() {
        [] => None,
        [_] if temperature == Some(0.0) => None,
        [one] => Some(format!("judged with {one}, where the protocol's temperature is 0")),
        several => Some(format!("judged with different settings: {}", several.join("; "))),
    }
}

/// What is sent beside the messages, for readers.
#[must_use]
pub fn in_words(params: &Params) -> String {
    params.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

/// The judge whose rows count: the chosen one, or the only one there is.
pub(crate) fn choose_judge(judges: &BTreeSet<&str>, chosen: Option<&str>) -> Result<String, EvalError> {
    let names = || judges.iter().copied().collect::<Vec<_>>().join(", ");
    match (chosen, judges.len()) {
        (Some(judge), _) if judges.contains(judge) => Ok(judge.to_owned()),
        (Some(judge), _) => Err(EvalError::Input(format!(
            "there are no judgments by {judge}\nhint: there are some by {}",
            names()
        ))),
        (None, 1) => Ok(names()),
        (None, 0) => Err(EvalError::Input("there are no judgments".to_owned())),
        (None, _) => Err(EvalError::Input(format!(
            "there are judgments by several judges: {}\nhint: choose one (--judge), for their scores are not to be \
             mixed",
            names()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_told_unless_they_are_the_protocols() {
        let meta = |params: &[(&str, f64)]| {
            let params = params.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            let judged = Judged { replies: vec![], status: Status::Ok, created: 0.0, source: None, params };
            Some(judged.meta("", ""))
        };
        let told = |metas: &[Option<Meta>]| settings(metas.iter());
        let (cold, warm, unknown) = (meta(&[("temperature", 0.0)]), meta(&[("temperature", 0.7)]), meta(&[]));
        assert_eq!(told(&[None, unknown.clone()]), None);
        assert_eq!(told(&[cold.clone(), None, unknown.clone()]), None);
        let warmly = "judged with temperature 0.7, where the protocol's temperature is 0";
        assert_eq!(told(&[warm.clone(), unknown]).as_deref(), Some(warmly));
        let none = told(&[meta(&[("max_tokens", 9.0)])]);
        assert!(none.is_some_and(|told| told.starts_with("judged with max_tokens 9.0, where")));
        let both = "judged with different settings: temperature 0.0; temperature 0.7";
        assert_eq!(told(&[warm, cold]).as_deref(), Some(both));
    }

    #[test]
    fn meta_adds_up_the_requests() {
        let reply = |reason: &str, prompt_tokens| Reply {
            finish_reason: Some(reason.to_owned()),
            usage: Some(Usage { prompt_tokens, completion_tokens: 1 }),
            ..Reply::default()
        };
        let judged = Judged {
            replies: vec![reply("length", 5), reply("stop", 9)],
            status: Status::Ok,
            created: 0.0,
            source: None,
            params: Params::new(),
        };
        assert_eq!(
            serde_json::to_string(&judged.meta("abc", "t")).unwrap(),
            "{\"status\":\"ok\",\"prompt_sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\
             \"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":14,\"completion_tokens\":2},\"attempts\":2,\
             \"source\":null,\"template_sha256\":\"t\"}"
        );
    }
}
