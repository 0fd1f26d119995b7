//! From `--backend` to a concrete backend: the only place that names one.

use asft_model::TrainBackend;
use clap::ValueEnum;

use crate::{
    allocator::{self, Mapped},
    failure::Failure,
};

/// Where tensors are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// flex, or the one that is compiled in where flex is not.
    Auto,
    /// Pure Rust on the CPU, in f32.
    Flex,
    /// LibTorch, in f32 or bf16: on the first CUDA device, or the CPU where there is none.
    Tch,
}

/// Work that is generic over the backend; a closure cannot be.
pub trait Work {
    /// What it gives.
    type Output;
    /// Does it.
    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<Self::Output, Failure>;
}

/// Runs `work` on a backend.
pub fn dispatch<W: Work>(backend: Backend, work: W) -> Result<W::Output, Failure> {
    match backend {
        Backend::Auto if cfg!(all(feature = "tch", not(feature = "flex"))) => on_tch(work),
        Backend::Auto | Backend::Flex => on_flex(work),
        Backend::Tch => on_tch(work),
    }
}

#[cfg(feature = "flex")]
fn on_flex<W: Work>(work: W) -> Result<W::Output, Failure> {
    allocator::keep_pages(Mapped::Nothing);
    work.run::<burn::backend::Autodiff<burn::backend::Flex>>(&Default::default())
}

#[cfg(not(feature = "flex"))]
fn on_flex<W: Work>(_: W) -> Result<W::Output, Failure> {
    Err(Failure::input(
        "backend flex is not compiled in\nhint: cargo build --release -p asft-cli --features flex",
    ))
}

#[cfg(feature = "tch")]
fn on_tch<W: Work>(work: W) -> Result<W::Output, Failure> {
    use burn::backend::{Autodiff, LibTorch, libtorch::LibTorchDevice};

    allocator::keep_pages(Mapped::Large);
    let device = match tch::Cuda::is_available() {
        true => LibTorchDevice::Cuda(0),
        false => LibTorchDevice::Cpu,
    };
    work.run::<Autodiff<LibTorch>>(&device)
}

#[cfg(not(feature = "tch"))]
fn on_tch<W: Work>(_: W) -> Result<W::Output, Failure> {
    Err(Failure::input(
        "backend tch is not compiled in\nhint: cargo xtask run --backend tch COMMAND finds LibTorch and builds with it",
    ))
}
