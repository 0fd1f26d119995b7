//! A Hugging Face directory: `config.json` beside one safetensors file or several with an index.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{SafetensorsFile, WeightSource, missing};
use crate::{LlamaConfig, ModelError, WeightType};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A checkpoint directory, its files mapped.
pub struct HfDirectory {
    path: PathBuf,
    config: LlamaConfig,
    shards: Vec<SafetensorsFile>,
    shard_of: BTreeMap<String, usize>,
    used: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl HfDirectory {
    /// Reads the config and maps every shard.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        let bytes = std::fs::read(&config_path).map_err(ModelError::io(&config_path))?;
        let config = LlamaConfig::from_json(&bytes, &config_path)?;
        let (shards, shard_of) = match (path.join(SINGLE), path.join(INDEX)) {
            (single, _) if single.is_file() => {
                let shard = SafetensorsFile::open(&single)?;
                let shard_of = shard.names()?.into_iter().map(|name| (name, 0)).collect();
                (vec![shard], shard_of)
            }
            (_, index) if index.is_file() => open_shards(path, &index)?,
            _ => {
                let what = format!("neither {SINGLE} nor {INDEX} is there");
                return Err(ModelError::NotAModel { path: path.to_owned(), what });
            }
        };
        Ok(Self { path: path.to_owned(), config, shards, shard_of, used: BTreeSet::new() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json` and the shards.
    pub fn files(&self) -> Vec<PathBuf> {
        let shards = self.shards.iter().map(|shard| shard.path().to_owned());
        [self.path.join("config.json")].into_iter().chain(shards).collect()
    }

    /// The narrowest type that holds every weight as it is stored.
    pub fn weight_type(&self) -> Result<WeightType, ModelError> {
        for (name, &shard) in &self.shard_of {
            if self.shards[shard].weight_type(name)? == WeightType::F32 {
                return Ok(WeightType::F32);
            }
        }
        Ok(WeightType::Bf16)
    }

    /// The shape of the model.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }
}

impl WeightSource for HfDirectory {
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.used.insert(name.to_owned());
        let shard = *self.shard_of.get(name).ok_or_else(|| missing(&self.path, name))?;
        self.shards[shard].values(name, shape)
    }

    fn unused(&self) -> Vec<String> {
        self.shard_of.keys().filter(|name| !self.used.contains(*name)).cloned().collect()
    }
}

type Shards = (Vec<SafetensorsFile>, BTreeMap<String, usize>);

fn open_shards(directory: &Path, index_path: &Path) -> Result<Shards, ModelError> {
    let damaged = |what: String| ModelError::Damaged { path: index_path.to_owned(), what };
    let bytes = std::fs::read(index_path).map_err(ModelError::io(index_path))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let mut numbers = BTreeMap::new();
    let mut shards = vec![];
    let mut shard_of = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        if Path::new(&file).file_name() != Some(file.as_ref()) {
            return Err(damaged(format!("tensor {tensor} lies in {file:?}, which is not a plain file name")));
        }
        let number = match numbers.get(&file) {
            Some(&number) => number,
            None => {
                shards.push(SafetensorsFile::open(&directory.join(&file))?);
                numbers.insert(file, shards.len() - 1);
                shards.len() - 1
            }
        };
        shard_of.insert(tensor, number);
    }
    Ok((shards, shard_of))
}
