//! Llama 3 generic over Burn backends.
//!
//! A model is built from a [`checkpoint::WeightSource`] (safetensors, GGUF or random numbers), reads packed
//! streams of [`asft_data::PairBatch`] and gives log-probs through the chunked [`head`]. Training drives its
//! parts by hand (see `asft-train`): [`Llama::embed`], [`Block::forward`], [`head::log_probs`] and their
//! backwards, so that no more than one segment's graph is ever alive.
//!
//! [`lora`] puts adapters on a frozen model; a [`checkpoint::SavedModel`] may have them.
//! [`generate`] goes on from prompts with kept keys and values.
//!
//! Module fields carry Hugging Face's names, so a parameter's path in the module tree is its tensor name in
//! a checkpoint.

pub mod attention;
mod block;
pub mod checkpoint;
mod config;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cube;
mod error;
#[cfg(feature = "flex")]
mod flex;
pub mod generate;
pub mod head;
#[cfg(feature = "host")]
mod host;
mod linear;
mod llama;
pub mod lora;
mod mlp;
#[cfg(feature = "ndarray")]
mod ndarray;
mod norm;
pub mod ops;
pub mod parameters;
pub mod quantization;
mod rope;
mod stream;
#[cfg(feature = "tch")]
mod torch;
mod weight_type;

pub use attention::{AttentionLayout, Span};
pub use block::Block;
pub use config::{LlamaConfig, RopeScaling};
pub use error::ModelError;
pub use linear::Linear;
pub use llama::{Decoder, Embedding, Llama};
pub use lora::{LoraConfig, Projection};
pub use norm::RmsNorm;
pub use ops::{LlamaBackend, TrainBackend};
pub use quantization::Quantization;
pub use stream::Stream;
pub use weight_type::WeightType;
