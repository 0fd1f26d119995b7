//! What a backend finds on this machine.

use std::sync::OnceLock;

use super::Backend;

/// The device that a backend computes on.
#[derive(Clone, Debug)]
pub struct Device {
    /// As its driver calls it.
    pub name: String,
    /// Bytes of its memory, where the system tells.
    pub memory: Option<u64>,
    /// Whether it is a GPU.
    pub is_gpu: bool,
}

/// The device of a backend that is compiled in, looked for once; the reason where there is none.
pub fn device(backend: Backend) -> &'static Result<Device, String> {
    static DEVICES: [OnceLock<Result<Device, String>>; Backend::ALL.len()] =
        [const { OnceLock::new() }; Backend::ALL.len()];
    let place = Backend::ALL.iter().position(|other| *other == backend).expect("auto is no backend");
    DEVICES[place].get_or_init(|| match backend {
        #[cfg(feature = "tch")]
        Backend::Tch if tch::Cuda::is_available() => {
            works::<burn::backend::LibTorch>(&torch())?;
            Ok(Device { name: "CUDA device 0, through LibTorch".to_owned(), memory: None, is_gpu: true })
        }
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => wgpu_device(),
        #[cfg(feature = "cuda")]
        Backend::Cuda => cuda_device(),
        _ => Ok(processor()),
    })
}

#[cfg(feature = "tch")]
pub fn torch() -> burn::backend::libtorch::LibTorchDevice {
    use burn::backend::libtorch::LibTorchDevice;
    match tch::Cuda::is_available() {
        true => LibTorchDevice::Cuda(0),
        false => LibTorchDevice::Cpu,
    }
}

/// The CPU and its memory.
fn processor() -> Device {
    let line = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches([':', ' ', '\t']).to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory =
        line("/proc/meminfo", "MemTotal:").and_then(|size| size.strip_suffix("kB")?.trim().parse().ok());
    Device {
        name: format!("{name}, {cores} threads"),
        memory: memory.map(|kilobytes: u64| kilobytes * 1024),
        is_gpu: false,
    }
}

#[cfg(feature = "wgpu")]
fn wgpu_device() -> Result<Device, String> {
    use burn::backend::wgpu::{WgpuDevice, graphics::AutoGraphicsApi, init_setup};

    let setup = quiet(|| init_setup::<AutoGraphicsApi>(&WgpuDevice::default(), Default::default()))
        .map_err(|_| "no adapter of Vulkan, Metal or DirectX 12 was found".to_owned())?;
    let info = setup.adapter.get_info();
    works::<burn::backend::Wgpu>(&WgpuDevice::default())?;
    let is_gpu = !matches!(info.device_type, wgpu::DeviceType::Cpu | wgpu::DeviceType::Other);
    Ok(Device { name: format!("{}, {:?}", info.name, info.backend), memory: None, is_gpu })
}

#[cfg(feature = "cuda")]
fn cuda_device() -> Result<Device, String> {
    use cudarc::driver::{CudaContext, sys};

    #[expect(unsafe_code, reason = "it loads a library")]
    // SAFETY: the CUDA driver may be loaded at any time.
    if !unsafe { sys::is_culib_present() } {
        return Err("no CUDA driver was found".to_owned());
    }
    let wrong = |error: cudarc::driver::DriverError| format!("the CUDA driver says: {error}");
    let context = quiet(|| CudaContext::new(0))?.map_err(wrong)?;
    let (name, memory) = (context.name().map_err(wrong)?, context.total_mem().map_err(wrong)?);
    works::<burn::backend::Cuda>(&Default::default())?;
    Ok(Device { name, memory: Some(memory as u64), is_gpu: true })
}

/// Bytes of a GPU's own memory that are taken, by whomever, where the driver tells. What a backend has taken it keeps, so
/// that after some steps this is about the most it needed.
pub fn device_memory_in_use(backend: Backend) -> Option<u64> {
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => {
            let (free, total) = cudarc::driver::CudaContext::new(0).ok()?.mem_get_info().ok()?;
            Some((total - free) as u64)
        }
        _ => None,
    }
}

/// Multiplies two small matrices, since drivers may be there and yet fail at the first kernel.
#[cfg(any(feature = "cuda", feature = "tch", feature = "wgpu"))]
fn works<B: burn::tensor::backend::Backend>(device: &B::Device) -> Result<(), String> {
    use burn::tensor::Tensor;

    let product = quiet(|| {
        let ones = Tensor::<B, 2>::ones([16, 16], device);
        ones.clone().matmul(ones).try_into_data()
    })?;
    let values = product.map_err(|error| format!("{error:?}"))?;
    match values.iter::<f32>().all(|value| value == 16.0) {
        true => Ok(()),
        false => Err("it multiplies wrongly".to_owned()),
    }
}

/// What `work` gives, or the first line of the first panic, which is not printed.
#[cfg(any(feature = "cuda", feature = "tch", feature = "wgpu"))]
fn quiet<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
        sync::{Arc, Mutex},
    };

    let first = Arc::new(Mutex::new(None));
    let hook = take_hook();
    let kept = first.clone();
    set_hook(Box::new(move |panic| {
        let what = panic.payload_as_str().unwrap_or("it failed without a word");
        let line = what.lines().find(|line| !line.trim().is_empty()).unwrap_or(what).trim().to_owned();
        if let Ok(mut kept) = kept.lock() {
            kept.get_or_insert(line);
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(work));
    set_hook(hook);
    result.map_err(|_| {
        let first = first.lock().ok().and_then(|mut first| first.take());
        first.unwrap_or_else(|| "it failed without a word".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name_and_threads() {
        let Device { name, is_gpu, .. } = processor();
        assert!(name.contains(" threads") && !name.starts_with(',') && !is_gpu, "{name}");
    }

    #[cfg(any(feature = "cuda", feature = "tch", feature = "wgpu"))]
    #[test]
    fn a_panic_becomes_its_first_line() {
        assert_eq!(quiet(|| 3), Ok(3));
        assert_eq!(quiet(|| -> u8 { panic!("\nno device\nmore") }), Err("no device".to_owned()));
    }
}
