//! What a user's path names: a model, or an adapter and the model that it was trained on.

use std::path::{Path, PathBuf};

use super::{ADAPTER_CONFIG, Checkpoint, PeftAdapter};
use crate::{Llama, LlamaBackend, LlamaConfig, ModelError, Quantization, WeightType};

/// A model on disk, its shape known and its weights not yet read.
pub struct SavedModel {
    base: Checkpoint,
    adapter: Option<PeftAdapter>,
}

impl SavedModel {
    /// Opens what [`Checkpoint::open`] does, or a directory of PEFT's, or the newest checkpoint of a run that trained
    /// an adapter. The base model is looked for where the adapter's config names it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let newest = path.join("latest");
        let has = |directory: &Path, file: &str| directory.join(file).is_file();
        let adapter = if has(path, "config.json") {
            None
        } else if has(path, ADAPTER_CONFIG) {
            Some(PeftAdapter::open(path)?)
        } else if has(&newest, ADAPTER_CONFIG) {
            Some(PeftAdapter::open(&newest.canonicalize().map_err(ModelError::io(&newest))?)?)
        } else {
            None
        };
        let base = match &adapter {
            None => Checkpoint::open(path)?,
            Some(adapter) => open_base(adapter)?,
        };
        Ok(Self { base, adapter })
    }

    /// The model without its adapter.
    pub fn base(&self) -> &Checkpoint {
        &self.base
    }

    /// The adapter, where there is one.
    pub fn adapter(&self) -> Option<&PeftAdapter> {
        self.adapter.as_ref()
    }

    /// The adapter, to be read.
    pub fn adapter_mut(&mut self) -> Option<&mut PeftAdapter> {
        self.adapter.as_mut()
    }

    /// The shape of the model.
    pub fn config(&self) -> &LlamaConfig {
        self.base.config()
    }

    /// The directory or file that was opened: an adapter's own where there is one.
    pub fn path(&self) -> &Path {
        self.adapter.as_ref().map_or_else(|| self.base.path(), PeftAdapter::path)
    }

    /// Where the tokenizer lies: with the adapter if it brings one.
    pub fn tokenizer_path(&self) -> &Path {
        match self.path().join("tokenizer.json").is_file() {
            true => self.path(),
            false => self.base.path(),
        }
    }

    /// The files that say what the model computes.
    pub fn files(&self) -> Vec<PathBuf> {
        let own = self.adapter.iter().flat_map(PeftAdapter::files);
        self.base.files().into_iter().chain(own).collect()
    }

    /// The narrowest type that holds every weight of the base model as it is stored.
    pub fn weight_type(&self) -> Result<WeightType, ModelError> {
        self.base.weight_type()
    }

    /// Reads the weights onto a device as [`Llama::load_as`] does, with the adapter beside them.
    pub fn load<B: LlamaBackend>(
        &mut self,
        weight_type: WeightType,
        quantization: Option<Quantization>,
        device: &B::Device,
    ) -> Result<Llama<B>, ModelError> {
        let model = self.load_base(weight_type, quantization, device)?;
        match &mut self.adapter {
            None => Ok(model),
            Some(adapter) => model.with_adapters(&adapter.lora().clone(), adapter),
        }
    }

    /// Reads the weights of the base model onto a device.
    pub fn load_base<B: LlamaBackend>(
        &mut self,
        weight_type: WeightType,
        quantization: Option<Quantization>,
        device: &B::Device,
    ) -> Result<Llama<B>, ModelError> {
        let config = self.base.config().clone();
        Llama::load_as(weight_type, quantization, &config, self.base.weights(), device)
    }
}

fn open_base(adapter: &PeftAdapter) -> Result<Checkpoint, ModelError> {
    let base = Path::new(adapter.base());
    match base.exists() {
        true => Checkpoint::open(base),
        false => Err(ModelError::Config {
            path: adapter.path().join(ADAPTER_CONFIG),
            key: "base_model_name_or_path".to_owned(),
            what: format!(
                "no model is at {:?}\nhint: an adapter needs the model that it was trained on; fetch it and correct the path, \
                 or run where it leads there",
                adapter.base()
            ),
        }),
    }
}
