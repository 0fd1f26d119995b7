//! Shapes of well-known models, to be trained from random weights: to plan and to measure without a download.

use std::path::Path;

use asft_model::LlamaConfig;

use crate::error::TrainError;

const PREFIX: &str = "random:";

/// Shapes by the name that stands behind `random:` in `model.path`.
const SHAPES: [(&str, &[u8]); 2] = [
    ("llama-3-8b", include_bytes!("../shapes/llama-3-8b.json")),
    ("llama-3.2-1b", include_bytes!("../shapes/llama-3.2-1b.json")),
];

/// The shape that a `model.path` of the form `random:NAME` names; `None` for any other path.
pub fn named(path: &str) -> Option<Result<LlamaConfig, TrainError>> {
    let name = path.strip_prefix(PREFIX)?;
    let shape = SHAPES.iter().find(|(shape, _)| *shape == name);
    Some(match shape {
        Some((name, json)) => LlamaConfig::from_json(json, Path::new(name)).map_err(Into::into),
        None => Err(TrainError::Shape {
            path: path.to_owned(),
            known: SHAPES.map(|(name, _)| format!("{PREFIX}{name}")).join(", "),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_parameters_of_the_models_they_are_named_after() {
        let parameters = |path| named(path).unwrap().unwrap().parameters();
        assert_eq!(parameters("random:llama-3-8b"), 8_030_261_248);
        assert_eq!(parameters("random:llama-3.2-1b"), 1_235_814_400);
        assert!(named("models/llama-3-8b").is_none());
        let unknown = named("random:llama-4").unwrap().unwrap_err().to_string();
        assert!(unknown.contains("random:llama-3-8b"), "{unknown}");
    }
}
