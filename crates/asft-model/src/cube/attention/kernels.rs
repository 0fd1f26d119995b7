//! Attention's kernels.
//!
//! A cube has a tile of queries of one head, or a tile of keys of one key head with all the queries that see them, so
//! that each result is written by one cube alone, its sum in an order that depends on the layout alone. Scores and weights
//! live a tile at a time.

#![allow(clippy::too_many_arguments, reason = "a kernel gets its tensors one by one")]

use cubecl::prelude::*;

use super::{
    products::{Destination, Operand, Shape, add_product, scale_rows, store, write, zeros},
    tables::{KEY_TILE, STRETCH},
    tiling::Tiling,
};

/// Less than any score.
const LEAST: f32 = -1e30;
/// By how much scores may exceed what their weights are relative to, before all that was summed is scaled down.
const SLACK: f32 = 8.0;

/// Some queries of a span and what they see, as the tables have them.
#[derive(CubeType, Clone, Copy)]
struct Stretch {
    first: usize,
    end: usize,
    seen: Rows,
}

/// Rows of a tensor that are numbered through: some of a prefix, then those that follow `own`.
#[derive(CubeType, Clone, Copy)]
struct Rows {
    prefix: usize,
    prefix_length: usize,
    own: usize,
}

#[cube]
fn read_stretch(table: &Array<u32>, row: usize) -> Stretch {
    let at = row * STRETCH;
    let seen = Rows {
        prefix: table[at + 2] as usize,
        prefix_length: table[at + 3] as usize,
        own: table[at + 4] as usize,
    };
    Stretch { first: table[at] as usize, end: table[at + 1] as usize, seen }
}

/// Rows one behind the other.
#[cube]
fn from_row(first: usize) -> Rows {
    Rows { prefix: 0usize, prefix_length: 0usize, own: first }
}

/// Shared memory for `count` rows of operands.
#[cube]
fn rows_of<E: Float, N: Size>(
    #[comptime] count: usize,
    #[comptime] tiling: Tiling,
) -> SharedMemory<Vector<E, N>> {
    let length = comptime!(count * tiling.row_stride() / tiling.vector());
    SharedMemory::<Vector<E, N>>::new_aligned(length, 128usize)
}

/// Copies `count` rows of one head to shared memory, zeros for those that are numbered `end` or higher.
#[cube]
fn load<E: Float, N: Size>(
    from: &Array<Vector<E, N>>,
    to: &mut SharedMemory<Vector<E, N>>,
    rows: Rows,
    first: usize,
    end: usize,
    head: usize,
    #[comptime] heads: usize,
    #[comptime] count: usize,
    #[comptime] tiling: Tiling,
) {
    let vector = comptime!(tiling.vector());
    let width = comptime!(tiling.width() / vector);
    let dim = comptime!(tiling.dim / vector);
    let total = comptime!(count * width);
    for round in 0..comptime!(total.div_ceil(Tiling::units())) {
        let place = round * comptime!(Tiling::units()) + UNIT_POS as usize;
        if comptime!(total.is_multiple_of(Tiling::units())) || place < total {
            let (row, column) = (place / width, place % width);
            let number = first + row;
            let mut value = Vector::<E, N>::new(E::new(0.0));
            if number < end && column < dim {
                let own = rows.own + number - rows.prefix_length;
                let token = select(number < rows.prefix_length, rows.prefix + number, own);
                value = from[(token * heads + head) * dim + column];
            }
            to[row * comptime!(tiling.row_stride() / vector) + column] = value;
        }
    }
}

/// Rows of queries, keys or values as a factor's rows, or as its columns where `transposed`.
fn operand(tiling: Tiling, transposed: bool) -> Operand {
    Operand { stride: tiling.row_stride(), transposed, vector: tiling.vector() }
}

/// Rows of weights as a factor's rows, or as its columns where `transposed`.
fn weight_operand(tiling: Tiling, transposed: bool) -> Operand {
    Operand { stride: tiling.weight_stride(), transposed, vector: 1 }
}

fn score_shape(tiling: Tiling) -> Shape {
    Shape { rows: tiling.queries, columns: tiling.keys, tensor_cores: tiling.tensor_cores }
}

fn query_shape(tiling: Tiling) -> Shape {
    Shape { rows: tiling.queries, columns: tiling.width(), tensor_cores: tiling.tensor_cores }
}

fn key_shape(tiling: Tiling) -> Shape {
    Shape { rows: tiling.keys, columns: tiling.width(), tensor_cores: tiling.tensor_cores }
}

/// Products of all rows of `queries` with all rows of `keys`.
#[cube]
fn score<P: CubePrimitive>(
    queries: &SharedMemory<P>,
    keys: &SharedMemory<P>,
    scores: &mut SharedMemory<f32>,
    #[comptime] tiling: Tiling,
) {
    let shape = comptime!(score_shape(tiling));
    let mut sum = zeros(shape);
    let left = comptime!(operand(tiling, false));
    let right = comptime!(operand(tiling, true));
    add_product::<P, P>(&mut sum, queries, keys, left, right, comptime!(tiling.width()), shape);
    store(&sum, scores, comptime!(tiling.score_stride()), shape);
}

/// Output `[tokens, heads, dim]` and log-sum-exp `[tokens, heads]` of a tile of queries (x) of a head (y).
#[cube(launch)]
pub fn attention_forward<E: Float, N: Size>(
    q: &Array<Vector<E, N>>,
    k: &Array<Vector<E, N>>,
    v: &Array<Vector<E, N>>,
    tiles: &Array<u32>,
    out: &mut Array<f32>,
    lse: &mut Array<f32>,
    scale: f32,
    #[comptime] tiling: Tiling,
) {
    let head = CUBE_POS_Y as usize;
    let kv_head = head / comptime!(tiling.group());
    let tile = read_stretch(tiles, CUBE_POS_X as usize);
    let heads = comptime!(tiling.heads);
    let kv_heads = comptime!(tiling.kv_heads);

    let mut queries = rows_of::<E, N>(comptime!(tiling.queries), tiling);
    // Of keys, then of values.
    let mut rows = rows_of::<E, N>(comptime!(tiling.keys), tiling);
    let mut weights =
        SharedMemory::<E>::new_aligned(comptime!(tiling.queries * tiling.weight_stride()), 128usize);
    let mut scores =
        SharedMemory::<f32>::new_aligned(comptime!(tiling.queries * tiling.score_stride()), 128usize);
    let mut scratch = SharedMemory::<f32>::new_aligned(comptime!(tiling.scratch()), 128usize);
    let mut factors = SharedMemory::<f32>::new(comptime!(tiling.queries));
    let mut sums = SharedMemory::<f32>::new(comptime!(Tiling::units()));

    load::<E, N>(
        q,
        &mut queries,
        from_row(tile.first),
        0usize,
        tile.end - tile.first,
        head,
        heads,
        comptime!(tiling.queries),
        tiling,
    );

    // A unit has one row of scores, which it shares with its neighbours.
    let per_row = comptime!(tiling.units_per_row());
    let row = UNIT_POS as usize / per_row;
    let lane = UNIT_POS as usize % per_row;
    let query = tile.first + row;
    let mut limit = 0usize;
    if query < tile.end {
        limit = tile.seen.prefix_length + query + 1 - tile.seen.own;
    }
    let mut reference = f32::new(LEAST);
    let mut sum = 0.0f32;
    let shape = comptime!(query_shape(tiling));
    let mut result = zeros(shape);

    let keys = tile.seen.prefix_length + tile.end - tile.seen.own;
    for block in 0..keys.div_ceil(comptime!(tiling.keys)) {
        let first = block * comptime!(tiling.keys);
        load::<E, N>(k, &mut rows, tile.seen, first, keys, kv_head, kv_heads, comptime!(tiling.keys), tiling);
        sync_cube();
        score::<Vector<E, N>>(&queries, &rows, &mut scores, tiling);
        sync_cube();
        load::<E, N>(v, &mut rows, tile.seen, first, keys, kv_head, kv_heads, comptime!(tiling.keys), tiling);
        let mut most = reference;
        for key in 0..comptime!(tiling.keys) {
            let score = scores[row * comptime!(tiling.score_stride()) + key] * scale;
            most = select(first + key < limit, max(most, score), most);
        }
        let mut factor = 1.0f32;
        if most > reference + SLACK {
            factor = f32::exp(reference - most);
            reference = most;
        }
        sum *= factor;
        for share in 0..comptime!(tiling.keys / tiling.units_per_row()) {
            let key = share * per_row + lane;
            let score = scores[row * comptime!(tiling.score_stride()) + key] * scale;
            let weight = select(first + key < limit, f32::exp(score - reference), 0.0f32);
            sum += weight;
            weights[row * comptime!(tiling.weight_stride()) + key] = E::cast_from(weight);
        }
        if lane == 0 {
            factors[row] = factor;
        }
        sync_cube();
        scale_rows(&mut result, &factors, &mut scratch, shape);
        let left = comptime!(weight_operand(tiling, false));
        let right = comptime!(operand(tiling, false));
        add_product::<E, Vector<E, N>>(
            &mut result,
            &weights,
            &rows,
            left,
            right,
            comptime!(tiling.keys),
            shape,
        );
        sync_cube();
    }

    sums[UNIT_POS as usize] = sum;
    sync_cube();
    if lane == 0 {
        let mut total = 0.0f32;
        for unit in 0..per_row {
            total += sums[row * per_row + unit];
        }
        // At least 1, but for rows behind the last query, of which nothing is written.
        factors[row] = 1.0f32 / max(total, 1.0f32);
        if query < tile.end {
            lse[query * heads + head] = reference + f32::ln(total);
        }
    }
    sync_cube();
    let to = Destination { first: tile.first, end: tile.end, column: head * comptime!(tiling.dim) };
    scale_rows(&mut result, &factors, &mut scratch, shape);
    write::<f32>(
        &result,
        1.0f32,
        &mut scratch,
        out,
        to,
        comptime!(tiling.heads * tiling.dim),
        comptime!(tiling.dim),
        shape,
    );
}

/// `Σ dout out` of each query and head, `[tokens, heads]`, one a unit.
#[cube(launch)]
pub fn attention_delta<E: Float>(
    out: &Array<f32>,
    grad: &Array<E>,
    delta: &mut Array<f32>,
    #[comptime] dim: usize,
) {
    let place = ABSOLUTE_POS;
    if place < delta.len() {
        let mut sum = 0.0f32;
        for column in 0..dim {
            sum += out[place * dim + column] * f32::cast_from(grad[place * dim + column]);
        }
        delta[place] = sum;
    }
}

/// Gradient by the queries `[tokens, heads, dim]` of a tile of queries (x) of a head (y).
#[cube(launch)]
pub fn attention_by_queries<E: Float, N: Size>(
    q: &Array<Vector<E, N>>,
    k: &Array<Vector<E, N>>,
    v: &Array<Vector<E, N>>,
    grad: &Array<Vector<E, N>>,
    lse: &Array<f32>,
    delta: &Array<f32>,
    tiles: &Array<u32>,
    dq: &mut Array<E>,
    scale: f32,
    #[comptime] tiling: Tiling,
) {
    let head = CUBE_POS_Y as usize;
    let kv_head = head / comptime!(tiling.group());
    let tile = read_stretch(tiles, CUBE_POS_X as usize);
    let heads = comptime!(tiling.heads);
    let kv_heads = comptime!(tiling.kv_heads);
    let count = tile.end - tile.first;

    let mut queries = rows_of::<E, N>(comptime!(tiling.queries), tiling);
    let mut grads = rows_of::<E, N>(comptime!(tiling.queries), tiling);
    // Of values, then of keys.
    let mut rows = rows_of::<E, N>(comptime!(tiling.keys), tiling);
    let mut weights =
        SharedMemory::<E>::new_aligned(comptime!(tiling.queries * tiling.weight_stride()), 128usize);
    let mut scores =
        SharedMemory::<f32>::new_aligned(comptime!(tiling.queries * tiling.score_stride()), 128usize);
    let mut by_weights =
        SharedMemory::<f32>::new_aligned(comptime!(tiling.queries * tiling.score_stride()), 128usize);
    let mut scratch = SharedMemory::<f32>::new_aligned(comptime!(tiling.scratch()), 128usize);

    load::<E, N>(
        q,
        &mut queries,
        from_row(tile.first),
        0usize,
        count,
        head,
        heads,
        comptime!(tiling.queries),
        tiling,
    );
    load::<E, N>(
        grad,
        &mut grads,
        from_row(tile.first),
        0usize,
        count,
        head,
        heads,
        comptime!(tiling.queries),
        tiling,
    );

    let per_row = comptime!(tiling.units_per_row());
    let row = UNIT_POS as usize / per_row;
    let lane = UNIT_POS as usize % per_row;
    let query = tile.first + row;
    let mut limit = 0usize;
    let mut log_sum = 0.0f32;
    let mut shift = 0.0f32;
    if query < tile.end {
        limit = tile.seen.prefix_length + query + 1 - tile.seen.own;
        log_sum = lse[query * heads + head];
        shift = delta[query * heads + head];
    }
    let shape = comptime!(query_shape(tiling));
    let mut result = zeros(shape);

    let keys = tile.seen.prefix_length + tile.end - tile.seen.own;
    for block in 0..keys.div_ceil(comptime!(tiling.keys)) {
        let first = block * comptime!(tiling.keys);
        load::<E, N>(v, &mut rows, tile.seen, first, keys, kv_head, kv_heads, comptime!(tiling.keys), tiling);
        sync_cube();
        score::<Vector<E, N>>(&grads, &rows, &mut by_weights, tiling);
        sync_cube();
        load::<E, N>(k, &mut rows, tile.seen, first, keys, kv_head, kv_heads, comptime!(tiling.keys), tiling);
        sync_cube();
        score::<Vector<E, N>>(&queries, &rows, &mut scores, tiling);
        sync_cube();
        for share in 0..comptime!(tiling.keys / tiling.units_per_row()) {
            let key = share * per_row + lane;
            let place = row * comptime!(tiling.score_stride()) + key;
            let weight = f32::exp(scores[place] * scale - log_sum);
            let by_score = select(first + key < limit, weight * (by_weights[place] - shift), 0.0f32);
            weights[row * comptime!(tiling.weight_stride()) + key] = E::cast_from(by_score);
        }
        sync_cube();
        let left = comptime!(weight_operand(tiling, false));
        let right = comptime!(operand(tiling, false));
        add_product::<E, Vector<E, N>>(
            &mut result,
            &weights,
            &rows,
            left,
            right,
            comptime!(tiling.keys),
            shape,
        );
        sync_cube();
    }
    let to = Destination { first: tile.first, end: tile.end, column: head * comptime!(tiling.dim) };
    write::<E>(
        &result,
        scale,
        &mut scratch,
        dq,
        to,
        comptime!(tiling.heads * tiling.dim),
        comptime!(tiling.dim),
        shape,
    );
}

/// Gradients by keys and values, each `[tokens, kv_heads, dim]`, of a tile of keys (x) of a key head (y).
#[cube(launch)]
pub fn attention_by_keys<E: Float, N: Size>(
    q: &Array<Vector<E, N>>,
    k: &Array<Vector<E, N>>,
    v: &Array<Vector<E, N>>,
    grad: &Array<Vector<E, N>>,
    lse: &Array<f32>,
    delta: &Array<f32>,
    tiles: &Array<u32>,
    visits: &Array<u32>,
    dk: &mut Array<E>,
    dv: &mut Array<E>,
    scale: f32,
    #[comptime] tiling: Tiling,
) {
    let kv_head = CUBE_POS_Y as usize;
    let heads = comptime!(tiling.heads);
    let kv_heads = comptime!(tiling.kv_heads);
    let at = CUBE_POS_X as usize * KEY_TILE;
    let first_key = tiles[at] as usize;
    let end_key = tiles[at + 1] as usize;
    let count = end_key - first_key;

    let mut keys = rows_of::<E, N>(comptime!(tiling.keys), tiling);
    let mut values = rows_of::<E, N>(comptime!(tiling.keys), tiling);
    let mut queries = rows_of::<E, N>(comptime!(tiling.queries), tiling);
    let mut grads = rows_of::<E, N>(comptime!(tiling.queries), tiling);
    let mut weights =
        SharedMemory::<E>::new_aligned(comptime!(tiling.queries * tiling.weight_stride()), 128usize);
    let mut by_scores =
        SharedMemory::<E>::new_aligned(comptime!(tiling.queries * tiling.weight_stride()), 128usize);
    let mut scores =
        SharedMemory::<f32>::new_aligned(comptime!(tiling.queries * tiling.score_stride()), 128usize);
    let mut by_weights =
        SharedMemory::<f32>::new_aligned(comptime!(tiling.queries * tiling.score_stride()), 128usize);
    let mut scratch = SharedMemory::<f32>::new_aligned(comptime!(tiling.scratch()), 128usize);

    load::<E, N>(
        k,
        &mut keys,
        from_row(first_key),
        0usize,
        count,
        kv_head,
        kv_heads,
        comptime!(tiling.keys),
        tiling,
    );
    load::<E, N>(
        v,
        &mut values,
        from_row(first_key),
        0usize,
        count,
        kv_head,
        kv_heads,
        comptime!(tiling.keys),
        tiling,
    );

    let per_row = comptime!(tiling.units_per_row());
    let row = UNIT_POS as usize / per_row;
    let lane = UNIT_POS as usize % per_row;
    let shape = comptime!(key_shape(tiling));
    let mut by_keys = zeros(shape);
    let mut by_values = zeros(shape);

    for visit in tiles[at + 2]..tiles[at + 3] {
        let stretch = read_stretch(visits, visit as usize);
        let seen = stretch.seen;
        let prefix_end = seen.prefix + seen.prefix_length;
        let length = stretch.end - stretch.first;
        for block in 0..length.div_ceil(comptime!(tiling.queries)) {
            let first = block * comptime!(tiling.queries);
            let query = stretch.first + first + row;
            for member in 0..comptime!(tiling.group()) {
                let head = kv_head * comptime!(tiling.group()) + member;
                load::<E, N>(
                    q,
                    &mut queries,
                    from_row(stretch.first),
                    first,
                    length,
                    head,
                    heads,
                    comptime!(tiling.queries),
                    tiling,
                );
                load::<E, N>(
                    grad,
                    &mut grads,
                    from_row(stretch.first),
                    first,
                    length,
                    head,
                    heads,
                    comptime!(tiling.queries),
                    tiling,
                );
                sync_cube();
                score::<Vector<E, N>>(&queries, &keys, &mut scores, tiling);
                score::<Vector<E, N>>(&grads, &values, &mut by_weights, tiling);
                let mut log_sum = 0.0f32;
                let mut shift = 0.0f32;
                if query < stretch.end {
                    log_sum = lse[query * heads + head];
                    shift = delta[query * heads + head];
                }
                sync_cube();
                for share in 0..comptime!(tiling.keys / tiling.units_per_row()) {
                    let column = share * per_row + lane;
                    let key = first_key + column;
                    let in_prefix = key >= seen.prefix && key < prefix_end;
                    let in_own = key >= seen.own && key <= query;
                    let visible = query < stretch.end && key < end_key && (in_prefix || in_own);
                    let place = row * comptime!(tiling.score_stride()) + column;
                    let weight = select(visible, f32::exp(scores[place] * scale - log_sum), 0.0f32);
                    let by_score = weight * (by_weights[place] - shift);
                    let place = row * comptime!(tiling.weight_stride()) + column;
                    weights[place] = E::cast_from(weight);
                    by_scores[place] = E::cast_from(by_score);
                }
                sync_cube();
                let left = comptime!(weight_operand(tiling, true));
                let right = comptime!(operand(tiling, false));
                add_product::<E, Vector<E, N>>(
                    &mut by_values,
                    &weights,
                    &grads,
                    left,
                    right,
                    comptime!(tiling.queries),
                    shape,
                );
                add_product::<E, Vector<E, N>>(
                    &mut by_keys,
                    &by_scores,
                    &queries,
                    left,
                    right,
                    comptime!(tiling.queries),
                    shape,
                );
                sync_cube();
            }
        }
    }
    let to = Destination { first: first_key, end: end_key, column: kv_head * comptime!(tiling.dim) };
    let row_length = comptime!(tiling.kv_heads * tiling.dim);
    write::<E>(&by_keys, scale, &mut scratch, dk, to, row_length, comptime!(tiling.dim), shape);
    write::<E>(&by_values, 1.0f32, &mut scratch, dv, to, row_length, comptime!(tiling.dim), shape);
}
