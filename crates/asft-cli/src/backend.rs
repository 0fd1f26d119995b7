//! From `--backend` to a concrete backend: the only place that names one.

use asft_model::TrainBackend;
use burn::backend::Autodiff;
use clap::ValueEnum;

use crate::failure::Failure;

/// Where tensors are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best one that is compiled in.
    Auto,
    /// Pure Rust on the CPU.
    Flex,
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
        #[cfg(feature = "flex")]
        Backend::Auto | Backend::Flex => work.run::<Autodiff<burn::backend::Flex>>(&Default::default()),
        #[cfg(not(feature = "flex"))]
        Backend::Auto | Backend::Flex => Err(Failure::input(
            "backend flex is not compiled in\nhint: cargo build --release -p asft-cli --features flex",
        )),
    }
}
