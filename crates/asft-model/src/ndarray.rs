//! The ndarray backend, which takes every operation by its definition: slow, but independent of all kernels of ours.

use burn::backend::NdArray;

use crate::LlamaBackend;

impl LlamaBackend for NdArray {}
