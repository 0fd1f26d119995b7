//! Attention that never has more of the scores than a tile.
//!
//! The forward pass has a running softmax and leaves the log-sum-exp, from which the backward pass makes the weights
//! again; memory is linear in tokens. Query heads read the keys of their key head where they lie. Scores, softmax and
//! sums are f32 whatever the operands are; bf16 operands are multiplied by tensor cores where the device has them.

pub mod kernels;
mod products;
mod tables;
pub mod tiling;

use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, kernel::into_contiguous,
    tensor::CubeTensor,
};
use cubecl::{calculate_cube_count_elemwise, prelude::*};
use half::bf16;

use self::{
    tables::KeyTiles,
    tiling::{Pass, Tiling},
};
use super::new_tensor;
use crate::ops::{AttentionInputs, tiled_attention};

/// See [`crate::LlamaBackend::packed_attention_forward`].
pub fn forward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    inputs: AttentionInputs<CubeBackend<R, F, I, B>>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    match tilings(&inputs, [Pass::Forward]) {
        Some([tiling]) => forward_with(inputs, tiling),
        None => tiled_attention::forward(inputs),
    }
}

/// See [`crate::LlamaBackend::packed_attention_backward`].
pub fn backward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    inputs: AttentionInputs<CubeBackend<R, F, I, B>>,
    out: CubeTensor<R>,
    lse: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> [CubeTensor<R>; 3] {
    match tilings(&inputs, [Pass::ByQueries, Pass::ByKeys]) {
        Some(tilings) if grad.dtype == inputs.q.dtype => backward_with(inputs, out, lse, grad, tilings),
        _ => tiled_attention::backward(inputs, out, lse, grad),
    }
}

/// Tilings of the passes, where the device has room for all of them and the operands' type is one the kernels know.
fn tilings<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement, const N: usize>(
    inputs: &AttentionInputs<CubeBackend<R, F, I, B>>,
    passes: [Pass; N],
) -> Option<[Tiling; N]> {
    let AttentionInputs { q, k, v, layout, .. } = inputs;
    let dtype = q.dtype;
    let known = matches!(dtype, DType::F32 | DType::BF16) && [k.dtype, v.dtype] == [dtype; 2];
    let ([_, heads, dim], [_, kv_heads, _]) = (q.shape().dims(), k.shape().dims());
    // Heads are the second dimension of the cubes' count.
    let usable = known && layout.tokens() > 0 && heads <= usize::from(u16::MAX);
    let tiling = |pass| {
        Tiling::for_device(q.client.properties(), pass, [heads, kv_heads, dim], dtype == DType::BF16)
            .filter(|_| usable)
    };
    let mut tilings = passes.into_iter().map(tiling);
    let found: Vec<Tiling> = tilings.by_ref().map_while(|tiling| tiling).collect();
    found.try_into().ok()
}

/// The forward pass with tiles of the given size.
pub fn forward_with<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    inputs: AttentionInputs<CubeBackend<R, F, I, B>>,
    tiling: Tiling,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let AttentionInputs { q, k, v, layout, scale } = inputs;
    let (dtype, [tokens, heads, dim]) = (q.dtype, q.shape().dims());
    let [q, k, v] = [q, k, v].map(into_contiguous);
    let out = new_tensor(&q, [tokens, heads, dim], DType::F32);
    let lse = new_tensor(&q, [tokens, heads], DType::F32);
    let tiles = tables::query_tiles(&layout, tiling.queries);
    let (count, tiles) = (tiles.len() as u32, upload(&q, tiles.as_flattened()));
    let launch = match dtype {
        DType::BF16 => kernels::attention_forward::launch::<bf16, R>,
        _ => kernels::attention_forward::launch::<f32, R>,
    };
    launch(
        &q.client.clone(),
        CubeCount::Static(count, heads as u32, 1),
        CubeDim::new_1d(Tiling::units() as u32),
        tiling.vector(),
        q.into_array_arg(),
        k.into_array_arg(),
        v.into_array_arg(),
        tiles.into_array_arg(),
        out.clone().into_array_arg(),
        lse.clone().into_array_arg(),
        scale as f32,
        tiling,
    );
    (out, lse)
}

/// The backward pass with tiles of the given sizes, of the kernel by queries and of that by keys.
pub fn backward_with<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    inputs: AttentionInputs<CubeBackend<R, F, I, B>>,
    out: CubeTensor<R>,
    lse: CubeTensor<R>,
    grad: CubeTensor<R>,
    [by_queries, by_keys]: [Tiling; 2],
) -> [CubeTensor<R>; 3] {
    let AttentionInputs { q, k, v, layout, scale } = inputs;
    let (dtype, client) = (q.dtype, q.client.clone());
    let ([tokens, heads, dim], [_, kv_heads, _]) = (q.shape().dims::<3>(), k.shape().dims::<3>());
    let [q, k, v, out, lse, grad] = [q, k, v, out, lse, grad].map(into_contiguous);
    let [dq, dk, dv] = [heads, kv_heads, kv_heads].map(|heads| new_tensor(&q, [tokens, heads, dim], dtype));
    let delta = new_tensor(&q, [tokens, heads], DType::F32);
    let units = CubeDim::new_1d(Tiling::units() as u32);
    let narrow = dtype == DType::BF16;
    let arg = |tensor: &CubeTensor<R>| tensor.clone().into_array_arg();

    let launch = match narrow {
        true => kernels::attention_delta::launch::<bf16, R>,
        false => kernels::attention_delta::launch::<f32, R>,
    };
    let cubes = calculate_cube_count_elemwise(&client, tokens * heads, units);
    launch(&client, cubes, units, arg(&out), arg(&grad), arg(&delta), dim);

    let tiles = tables::query_tiles(&layout, by_queries.queries);
    let cubes = CubeCount::Static(tiles.len() as u32, heads as u32, 1);
    let tiles = upload(&q, tiles.as_flattened());
    let launch = match narrow {
        true => kernels::attention_by_queries::launch::<bf16, R>,
        false => kernels::attention_by_queries::launch::<f32, R>,
    };
    launch(
        &client,
        cubes,
        units,
        by_queries.vector(),
        arg(&q),
        arg(&k),
        arg(&v),
        arg(&grad),
        arg(&lse),
        arg(&delta),
        arg(&tiles),
        arg(&dq),
        scale as f32,
        by_queries,
    );

    let KeyTiles { tiles, visits } = KeyTiles::new(&layout, by_keys.keys);
    let cubes = CubeCount::Static(tiles.len() as u32, kv_heads as u32, 1);
    let [tiles, visits] = [tiles.as_flattened(), visits.as_flattened()].map(|table| upload(&q, table));
    let launch = match narrow {
        true => kernels::attention_by_keys::launch::<bf16, R>,
        false => kernels::attention_by_keys::launch::<f32, R>,
    };
    launch(
        &client,
        cubes,
        units,
        by_keys.vector(),
        arg(&q),
        arg(&k),
        arg(&v),
        arg(&grad),
        arg(&lse),
        arg(&delta),
        arg(&tiles),
        arg(&visits),
        arg(&dk),
        arg(&dv),
        scale as f32,
        by_keys,
    );
    [dq, dk, dv]
}

/// A table where `like` lies.
fn upload<R: CubeRuntime>(like: &CubeTensor<R>, table: &[u32]) -> CubeTensor<R> {
    let handle = like.client.create_from_slice(u32::as_bytes(table));
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, [table.len()].into(), handle, DType::U32)
}
