//! Low-rank adapters (LoRA, arXiv 2106.09685) of a model's projections, and the names they have in PEFT's files.
//!
//! A model with adapters trains nothing else: its weights are frozen when they are put on.

mod adapter;
mod config;
mod fresh;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Tensor, TensorData, backend::Backend},
};

pub use adapter::Adapter;
pub use config::{LoraConfig, Projection};
pub use fresh::FreshAdapter;

use crate::{
    Block, Linear, Llama, LlamaBackend, ModelError,
    checkpoint::{NamedTensor, WeightSource, hash},
    parameters,
};

/// What PEFT puts before the path of an adapted module.
pub const PEFT_PREFIX: &str = "base_model.model.";
/// How PEFT's names of both factors end, after the path of the adapted module.
pub const PEFT_SUFFIXES: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];
/// How the paths of both factors end in a [`Llama`].
const SUFFIXES: [&str; 2] = [".adapter.lora_a", ".adapter.lora_b"];

impl<B: LlamaBackend> Llama<B> {
    /// Freezes all weights and puts adapters on the projections that `lora` names, asking `weights` for one
    /// factor after the other by PEFT's names. Adapters that are there already are replaced.
    pub fn with_adapters(
        self,
        lora: &LoraConfig,
        weights: &mut dyn WeightSource,
    ) -> Result<Self, ModelError> {
        let mut model = self.without_adapters().no_grad();
        let device = model.head_weight().device();
        for (layer, block) in model.model.layers.iter_mut().enumerate() {
            for &projection in &lora.target_modules {
                let path = format!("model.layers.{layer}.{}", projection.path());
                let linear = linear_mut(block, projection);
                let [out, inner] = linear.dims();
                let [name_a, name_b] = PEFT_SUFFIXES.map(|suffix| format!("{PEFT_PREFIX}{path}{suffix}"));
                let mut factor = |name: &str, shape: [usize; 2]| -> Result<_, ModelError> {
                    Ok(parameter(weights.weight(name, &shape)?, shape, &device))
                };
                linear.adapter = Some(Adapter {
                    lora_a: factor(&name_a, [lora.rank, inner])?,
                    lora_b: factor(&name_b, [out, lora.rank])?,
                    scale: lora.scale(),
                    dropout: lora.dropout,
                    seed: hash(&path),
                });
            }
        }
        match weights.unused().first() {
            None => Ok(model),
            Some(tensor) => Err(ModelError::UnusedFactor { tensor: tensor.clone() }),
        }
    }

    /// The model with its adapters switched off, which shares its weights.
    pub fn without_adapters(mut self) -> Self {
        self.for_each_projection(|linear| linear.adapter = None);
        self
    }

    /// The model with `W + scale · B A` for each adapted weight and no adapters, nothing of it frozen any more; the
    /// sum is made in f32 and rounded to the weight's type.
    pub fn merged(mut self) -> Self {
        let mut found = false;
        self.for_each_projection(|linear| {
            let Some(adapter) = linear.adapter.take() else { return };
            found = true;
            let weight = linear.weight();
            let dtype = weight.dtype();
            let sum = (weight.cast(DType::F32) + adapter.delta()).cast(dtype);
            *linear = Linear::new(Param::from_tensor(sum.detach()));
        });
        if found { self.map(&mut Thaw) } else { self }
    }

    fn for_each_projection(&mut self, mut change: impl FnMut(&mut Linear<B>)) {
        for block in &mut self.model.layers {
            Projection::ALL.into_iter().for_each(|projection| change(linear_mut(block, projection)));
        }
    }
}

/// Tracks every parameter again.
struct Thaw;

impl<B: Backend> ModuleMapper<B> for Thaw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.set_require_grad(true)
    }
}

fn parameter<B: Backend>(values: Vec<f32>, shape: [usize; 2], device: &B::Device) -> Param<Tensor<B, 2>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)))
}

fn linear_mut<B: LlamaBackend>(block: &mut Block<B>, projection: Projection) -> &mut Linear<B> {
    match projection {
        Projection::QProj => &mut block.self_attn.q_proj,
        Projection::KProj => &mut block.self_attn.k_proj,
        Projection::VProj => &mut block.self_attn.v_proj,
        Projection::OProj => &mut block.self_attn.o_proj,
        Projection::GateProj => &mut block.mlp.gate_proj,
        Projection::UpProj => &mut block.mlp.up_proj,
        Projection::DownProj => &mut block.mlp.down_proj,
    }
}

/// Both factors of every adapter under PEFT's names.
pub fn adapter_tensors<B: LlamaBackend>(model: &Llama<B>) -> Vec<NamedTensor<B>> {
    let mut tensors = vec![];
    parameters::for_each(model, |path, values, shape| {
        if let Some(name) = peft_name(path) {
            tensors.push(NamedTensor { name, shape: shape.to_vec(), values });
        }
    });
    tensors
}

/// PEFT's name of the parameter at `path`, if it is an adapter's.
pub fn peft_name(path: &str) -> Option<String> {
    let named = |(ours, theirs)| Some(format!("{PEFT_PREFIX}{}{theirs}", path.strip_suffix(ours)?));
    SUFFIXES.into_iter().zip(PEFT_SUFFIXES).find_map(named)
}
