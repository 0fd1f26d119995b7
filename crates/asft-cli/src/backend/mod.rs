//! From `--backend` to a concrete backend: the only place that names one.

mod device;
#[cfg(all(feature = "tch", unix))]
pub mod openmp;
mod rate;

use asft_model::TrainBackend;
use clap::ValueEnum;

pub use device::{Device, device, device_memory_in_use};
pub use rate::{matmul_gflops, product_gflops, random_matrix};

use crate::{
    allocator::{self, Mapped},
    failure::Failure,
};

/// Where tensors are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best of those that are compiled in and work here: GPUs first, then flex.
    Auto,
    /// Pure Rust on the CPU, in f32 or bf16.
    Flex,
    /// Pure Rust on the CPU without any kernel of ours, in f32: slow, to compare with.
    Ndarray,
    /// LibTorch, in f32 or bf16: on the first CUDA device, or the CPU where there is none.
    Tch,
    /// Vulkan, Metal or DirectX 12, in f32.
    Wgpu,
    /// The first CUDA device, in f32 or bf16.
    Cuda,
}

impl Backend {
    /// All but `auto`.
    pub const ALL: [Self; 5] = [Self::Flex, Self::Ndarray, Self::Tch, Self::Wgpu, Self::Cuda];

    /// As `--backend` spells it; its cargo feature has the same name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Tch => "tch",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// Whether this program has it.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Self::Auto => true,
            Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Tch => cfg!(feature = "tch"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// The backend itself, or what `auto` stands for.
    ///
    /// # Errors
    /// If it is not compiled in or does not work here.
    pub fn usable(self) -> Result<Self, Failure> {
        let backend = match self {
            Self::Auto => return Self::best(),
            named => named,
        };
        let name = backend.name();
        match backend.is_compiled_in().then(|| device(backend)) {
            None => {
                let hint = backend.hint();
                Err(Failure::input(format!("backend {name} is not compiled in\nhint: {hint}")))
            }
            Some(Err(why)) => Err(Failure::input(format!("backend {name} does not work here: {why}"))),
            Some(Ok(_)) => Ok(backend),
        }
    }

    /// What `auto` stands for on this machine.
    pub fn best() -> Result<Self, Failure> {
        let on_gpu = [Self::Cuda, Self::Tch, Self::Wgpu].into_iter().find(|backend| {
            backend.is_compiled_in() && device(*backend).as_ref().is_ok_and(|device| device.is_gpu)
        });
        let on_cpu = [Self::Flex, Self::Tch, Self::Ndarray, Self::Wgpu]
            .into_iter()
            .filter(|backend| backend.is_compiled_in());
        on_gpu.or_else(|| on_cpu.into_iter().find(|backend| device(*backend).is_ok())).ok_or_else(|| {
            Failure::input("no backend that is compiled in works here\nhint: asft devices says why")
        })
    }

    /// How to get it.
    pub fn hint(self) -> String {
        format!("cargo xtask run --backend {0} COMMAND builds with it", self.name())
    }
}

/// Work that is generic over the backend; a closure cannot be.
pub trait Work {
    /// What it gives.
    type Output;
    /// Does it.
    fn run<A: TrainBackend>(self, device: &A::Device) -> Result<Self::Output, Failure>;
}

/// Runs `work` on a backend.
///
/// # Errors
/// If the backend is not compiled in or does not work here, or what `work` says.
pub fn dispatch<W: Work>(backend: Backend, work: W) -> Result<W::Output, Failure> {
    match backend.usable()? {
        #[cfg(feature = "flex")]
        Backend::Flex => {
            allocator::keep_pages(Mapped::Nothing);
            work.run::<burn::backend::Autodiff<burn::backend::Flex>>(&Default::default())
        }
        #[cfg(feature = "ndarray")]
        Backend::Ndarray => work.run::<burn::backend::Autodiff<burn::backend::NdArray>>(&Default::default()),
        #[cfg(feature = "tch")]
        Backend::Tch => {
            allocator::keep_pages(Mapped::Large);
            work.run::<burn::backend::Autodiff<burn::backend::LibTorch>>(&device::torch())
        }
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => work.run::<burn::backend::Autodiff<burn::backend::Wgpu>>(&Default::default()),
        #[cfg(feature = "cuda")]
        Backend::Cuda => work.run::<burn::backend::Autodiff<burn::backend::Cuda>>(&Default::default()),
        other => unreachable!("{other:?} was seen to be compiled in"),
    }
}
