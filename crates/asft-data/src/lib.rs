//! Preference data for alignment training: files in, packed batches of plain integers out.
//!
//! The way of a row: [`read`] opens a file of any supported container, [`schema`] turns its rows into
//! [`PreferenceRow`]s, [`encode`] renders and tokenizes them with a [`Tokenizer`] and its chat template,
//! [`truncation`] fits them into the context, [`sampler`] picks the pairs of a step and [`pack`] lays them
//! out as one token stream per micro-batch. This crate knows no tensor library.

mod error;
mod guard;
mod row;

pub mod dataset;
pub mod encode;
pub mod gguf;
pub mod pack;
pub mod read;
pub mod sampler;
pub mod schema;
pub mod template;
pub mod tokenizer;
pub mod truncation;

pub use dataset::{DataReport, Dataset};
pub use encode::EncodedPair;
pub use error::DataError;
pub use pack::{PairBatch, Segment};
pub use row::{Message, Origin, PreferenceRow};
pub use sampler::Sampler;
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
