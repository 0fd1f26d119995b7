//! The CUDA source of every kernel and of every type that it is launched with, made without a device.
//!
//! NVRTC would make machine code of it, which needs NVIDIA's libraries; here it is seen that CubeCL's compiler takes the
//! kernels, and that tensor cores are used where they are meant to be.

use cubecl::{
    Compiler, KernelSettings,
    compute::KernelBuilder,
    cuda::{CudaCompiler, CudaRuntime},
    ir::{
        DeviceProperties, ElemType, FloatKind, HardwareProperties, MemoryDeviceProperties,
        features::{Features, MmaConfig},
    },
    prelude::*,
    profile::TimingMethod,
};
use half::bf16;

use super::{
    adamw::{self, Numbers, NumbersExpand, Seeds, SeedsExpand, Variant, adamw_kernel},
    attention::{
        kernels::{attention_by_keys, attention_by_queries, attention_delta, attention_forward},
        tiling::{Pass, Tiling},
    },
};

/// What CubeCL says of a GPU with this much shared memory a cube, in bytes.
fn device(max_shared_memory_size: usize, tensor_cores: bool) -> DeviceProperties {
    let hardware = HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 32,
        max_shared_memory_size,
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(132),
        num_cpu_cores: None,
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        max_vector_size: VectorSize::MAX,
    };
    let memory = MemoryDeviceProperties { max_page_size: 1 << 34, alignment: 512 };
    let mut features = Features::default();
    if tensor_cores {
        let [bf16, f32] = [FloatKind::BF16, FloatKind::F32].map(|kind| ElemType::Float(kind).into());
        let product = MmaConfig { a_type: bf16, b_type: bf16, cd_type: f32, m: 16, n: 16, k: 16 };
        features.matmul.cmma.insert(product);
    }
    DeviceProperties::new(features, memory, hardware, TimingMethod::System)
}

/// Shared memory of a cube of Hopper.
const HOPPER: usize = 227 << 10;
/// Of Ada.
const ADA: usize = 99 << 10;
/// What Vulkan promises on most devices.
const LEAST: usize = 32 << 10;

/// A kernel's source and its shared memory in bytes.
struct Source {
    text: String,
    shared_bytes: usize,
}

/// Compiles what `define` expands, under the given name.
fn compiled(name: &str, units: u32, define: impl FnOnce(&mut KernelBuilder)) -> Source {
    let mut builder = KernelBuilder::default();
    builder.runtime_properties(CudaRuntime::target_properties());
    builder.device_properties(&device(HOPPER, true));
    AddressType::U32.register(&mut builder.scope);
    define(&mut builder);
    let settings = KernelSettings::default().cube_dim(CubeDim::new_1d(units)).kernel_name(name);
    let kernel = builder.build(settings);
    let address = AddressType::U32.unsigned_type();
    let kernel = CudaCompiler::default()
        .compile(kernel, &Default::default(), ExecutionMode::Checked, address)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let source = Source { text: kernel.to_string(), shared_bytes: kernel.shared_memory_size() };
    if let Some(folder) = std::env::var_os("ASFT_KEEP_SOURCE") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.cu")), &source.text).unwrap();
    }
    assert!(source.text.contains(&format!("{name} (")), "{name} is not in its source");
    source
}

fn input<E: CubePrimitive>(builder: &mut KernelBuilder) -> NativeExpand<Array<E>> {
    let of = E::as_type(&builder.scope);
    builder.input_array(of).into()
}

fn output<E: CubePrimitive>(builder: &mut KernelBuilder) -> NativeExpand<Array<E>> {
    let of = E::as_type(&builder.scope);
    builder.output_array(of).into()
}

fn scalar<E: CubePrimitive>(builder: &mut KernelBuilder) -> NativeExpand<E> {
    let of = E::as_type(&builder.scope).storage_type();
    builder.scalar(of).into()
}

fn adamw_source<W: Float, M: Float>(name: &str, variant: Variant) -> Source {
    compiled(name, adamw::UNITS, |builder| {
        let (value, gradient) = (output::<W>(builder), input::<f32>(builder));
        let (first, second) = (output::<M>(builder), output::<M>(builder));
        let numbers: <Numbers as CubeType>::ExpandType = NumbersExpand {
            keep_first: scalar(builder),
            take_first: scalar(builder),
            keep_second: scalar(builder),
            take_second: scalar(builder),
            second_root: scalar(builder),
            eps: scalar(builder),
            keep_value: scalar(builder),
            step_size: scalar(builder),
            scale: scalar(builder),
        };
        let seeds: <Seeds as CubeType>::ExpandType = SeedsExpand {
            value_low: scalar(builder),
            value_high: scalar(builder),
            first_low: scalar(builder),
            first_high: scalar(builder),
            second_low: scalar(builder),
            second_high: scalar(builder),
        };
        let scope = &mut builder.scope;
        adamw_kernel::expand::<W, M>(scope, value, gradient, first, second, numbers, seeds, variant);
    })
}

#[test]
fn every_adamw_compiles() {
    for fresh in [false, true] {
        for (narrow_value, narrow_moments) in [(false, false), (false, true), (true, false), (true, true)] {
            let variant = Variant { fresh, narrow_value, narrow_moments };
            let of = |narrow| if narrow { "bf16" } else { "f32" };
            let age = if fresh { "fresh" } else { "kept" };
            let name = format!("adamw_{}_{}_{age}", of(narrow_value), of(narrow_moments));
            let source = match (narrow_value, narrow_moments) {
                (false, false) => adamw_source::<f32, f32>(&name, variant),
                (false, true) => adamw_source::<f32, bf16>(&name, variant),
                (true, false) => adamw_source::<bf16, f32>(&name, variant),
                (true, true) => adamw_source::<bf16, bf16>(&name, variant),
            };
            let rounds = narrow_value || narrow_moments;
            assert_eq!(source.text.contains("__nv_bfloat16"), rounds, "{name}");
            // The first constant of the hash.
            assert_eq!(source.text.contains("2146121005"), rounds, "{name}");
            assert_eq!(source.shared_bytes, 0, "{name}");
        }
    }
}

fn forward_source<E: Float, N: Size>(name: &str, tiling: Tiling) -> Source {
    compiled(name, Tiling::units() as u32, |builder| {
        let [q, k, v] = [(); 3].map(|()| input::<Vector<E, N>>(builder));
        let tiles = input::<u32>(builder);
        let [out, lse] = [(); 2].map(|()| output::<f32>(builder));
        let scale = scalar::<f32>(builder);
        attention_forward::expand::<E, N>(
            &mut builder.scope,
            tiling.vector(),
            q,
            k,
            v,
            tiles,
            out,
            lse,
            scale,
            tiling,
        );
    })
}

fn delta_source<E: Float>(name: &str, dim: usize) -> Source {
    compiled(name, Tiling::units() as u32, |builder| {
        let (out, grad) = (input::<f32>(builder), input::<E>(builder));
        let delta = output::<f32>(builder);
        attention_delta::expand::<E>(&mut builder.scope, out, grad, delta, dim);
    })
}

fn by_queries_source<E: Float, N: Size>(name: &str, tiling: Tiling) -> Source {
    compiled(name, Tiling::units() as u32, |builder| {
        let [q, k, v, grad] = [(); 4].map(|()| input::<Vector<E, N>>(builder));
        let [lse, delta] = [(); 2].map(|()| input::<f32>(builder));
        let tiles = input::<u32>(builder);
        let dq = output::<E>(builder);
        let scale = scalar::<f32>(builder);
        let scope = &mut builder.scope;
        attention_by_queries::expand::<E, N>(
            scope,
            tiling.vector(),
            q,
            k,
            v,
            grad,
            lse,
            delta,
            tiles,
            dq,
            scale,
            tiling,
        );
    })
}

fn by_keys_source<E: Float, N: Size>(name: &str, tiling: Tiling) -> Source {
    compiled(name, Tiling::units() as u32, |builder| {
        let [q, k, v, grad] = [(); 4].map(|()| input::<Vector<E, N>>(builder));
        let [lse, delta] = [(); 2].map(|()| input::<f32>(builder));
        let [tiles, visits] = [(); 2].map(|()| input::<u32>(builder));
        let [dk, dv] = [(); 2].map(|()| output::<E>(builder));
        let scale = scalar::<f32>(builder);
        let scope = &mut builder.scope;
        attention_by_keys::expand::<E, N>(
            scope,
            tiling.vector(),
            q,
            k,
            v,
            grad,
            lse,
            delta,
            tiles,
            visits,
            dk,
            dv,
            scale,
            tiling,
        );
    })
}

type Compile = fn(&str, Tiling) -> Source;

/// The kernels of attention in f32, in bf16, and in bf16 read by vectors of 8.
const ATTENTION: [(&str, Pass, [Compile; 3]); 3] = [
    (
        "attention_forward",
        Pass::Forward,
        [forward_source::<f32, Const<1>>, forward_source::<bf16, Const<1>>, forward_source::<bf16, Const<8>>],
    ),
    (
        "attention_by_queries",
        Pass::ByQueries,
        [
            by_queries_source::<f32, Const<1>>,
            by_queries_source::<bf16, Const<1>>,
            by_queries_source::<bf16, Const<8>>,
        ],
    ),
    (
        "attention_by_keys",
        Pass::ByKeys,
        [by_keys_source::<f32, Const<1>>, by_keys_source::<bf16, Const<1>>, by_keys_source::<bf16, Const<8>>],
    ),
];

#[test]
fn every_attention_compiles() {
    // Of Llama 3.2 1B and of 3.1 8B.
    for shape in [[32, 8, 64], [32, 8, 128]] {
        for (kernel, pass, [in_f32, in_bf16, by_vectors]) in ATTENTION {
            let devices = [("hopper", HOPPER, true), ("ada", ADA, true), ("plain", HOPPER, false)];
            for (device_name, shared, tensor_cores) in devices {
                for narrow in [false, true] {
                    let properties = device(shared, tensor_cores);
                    let tiling = Tiling::for_device(&properties, pass, shape, narrow).unwrap();
                    assert_eq!(tiling.tensor_cores, narrow && tensor_cores);
                    let of = if narrow { "bf16" } else { "f32" };
                    let name = format!("{kernel}_{of}_{}_{device_name}", shape[2]);
                    let compile = match (narrow, tiling.vector()) {
                        (false, 1) => in_f32,
                        (true, 1) => in_bf16,
                        (true, 8) => by_vectors,
                        (_, vector) => panic!("{name}: vectors of {vector}"),
                    };
                    let source = compile(&name, tiling);
                    assert_eq!(source.text.contains("__nv_bfloat16"), narrow, "{name}");
                    let multiplied = source.text.contains("wmma::mma_sync");
                    assert_eq!(multiplied, tiling.tensor_cores, "{name}");
                    let allowed = tiling.shared_bytes(pass, if narrow { 2 } else { 4 });
                    assert!(allowed <= shared, "{name}");
                    // Each of up to nine buffers begins at a multiple of 128 bytes.
                    let used = source.shared_bytes;
                    assert!(used <= allowed + 9 * 128, "{name}: {used} of {allowed}");
                }
            }
        }
    }
    for narrow in [false, true] {
        let name = format!("attention_delta_{}", if narrow { "bf16" } else { "f32" });
        let source = if narrow { delta_source::<bf16>(&name, 64) } else { delta_source::<f32>(&name, 64) };
        assert_eq!(source.text.contains("__nv_bfloat16"), narrow, "{name}");
    }
}

#[test]
fn tiles_are_as_large_as_a_device_allows() {
    let side = |shared, tensor_cores, pass, dim, narrow| {
        Tiling::for_device(&device(shared, tensor_cores), pass, [32, 8, dim], narrow)
            .map(|tiling| (tiling.queries, tiling.tensor_cores))
    };
    assert_eq!(side(HOPPER, true, Pass::Forward, 128, true), Some((64, true)));
    assert_eq!(side(HOPPER, true, Pass::ByKeys, 128, true), Some((64, true)));
    assert_eq!(side(ADA, true, Pass::ByKeys, 128, true), Some((32, true)));
    assert_eq!(side(HOPPER, true, Pass::ByKeys, 128, false), Some((32, false)));
    assert_eq!(side(HOPPER, false, Pass::ByKeys, 128, true), Some((32, false)));
    assert_eq!(side(LEAST, false, Pass::Forward, 128, false), Some((16, false)));
    // No room for the tiles of four operands.
    assert_eq!(side(LEAST, false, Pass::ByKeys, 128, false), None);
    assert_eq!(side(HOPPER, true, Pass::Forward, 1024, true), None);
}
