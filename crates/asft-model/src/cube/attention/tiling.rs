//! How large the tiles of attention's kernels are, and what of them lies in shared memory.

use cubecl::{
    ir::{DeviceProperties, ElemType, FloatKind, features::MmaConfig},
    prelude::*,
};

/// Side of the tiles that one instruction of the tensor cores multiplies.
pub const SIDE: usize = 16;
/// Units that make a tile together; on devices with tensor cores they are a plane.
pub const TEAM: usize = 32;
/// Teams of a cube.
const TEAMS: usize = 4;

/// What a kernel is compiled for: the shapes of a call, of its tiles, and who multiplies.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Tiling {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub dim: usize,
    /// Queries of a tile, a multiple of [`SIDE`].
    pub queries: usize,
    /// Keys of a tile, a multiple of [`SIDE`].
    pub keys: usize,
    /// Whether the tensor cores multiply.
    pub tensor_cores: bool,
}

/// The three kernels that need shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Output and log-sum-exp.
    Forward,
    /// Gradient by the queries.
    ByQueries,
    /// Gradients by keys and values.
    ByKeys,
}

impl Tiling {
    /// The largest tiles that fit on a device, `None` where the smallest do not. `bf16` says of what type the operands
    /// are, f32 otherwise.
    pub fn for_device(
        properties: &DeviceProperties,
        pass: Pass,
        [heads, kv_heads, dim]: [usize; 3],
        bf16: bool,
    ) -> Option<Self> {
        let bytes = if bf16 { 2 } else { 4 };
        let of = |side, tensor_cores| Self { heads, kv_heads, dim, queries: side, keys: side, tensor_cores };
        let hardware = &properties.hardware;
        let with = [64, 32, 16].map(|side| of(side, true));
        let without = [32, 16].map(|side| of(side, false));
        let usable = bf16 && tensor_cores(properties);
        let candidates = with.into_iter().filter(|_| usable).chain(without);
        // Accumulators of wider heads would not fit into registers.
        let narrow = |tiling: &Self| tiling.queries * tiling.width() <= 64 * 128;
        let fits = |tiling: &Self| tiling.shared_bytes(pass, bytes) <= hardware.max_shared_memory_size;
        let units = Self::units() as u32 <= hardware.max_units_per_cube;
        candidates.filter(|tiling| units && narrow(tiling) && fits(tiling)).max_by_key(Self::rank)
    }

    fn rank(&self) -> (bool, usize) {
        (self.tensor_cores, self.queries)
    }

    /// Units of a cube.
    pub const fn units() -> usize {
        TEAM * TEAMS
    }

    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// `dim`, filled up with zeros to whole tiles.
    pub fn width(&self) -> usize {
        self.dim.next_multiple_of(SIDE)
    }

    /// Distance of rows of operands in shared memory: such that neighbours do not fall on the same banks, and for
    /// the tensor cores rows of tiles begin at multiples of 16 bytes.
    pub fn row_stride(&self) -> usize {
        self.width() + if self.tensor_cores { 8 } else { 1 }
    }

    /// Numbers of operands that are read at once, 16 bytes where the tensor cores multiply.
    pub fn vector(&self) -> usize {
        if self.tensor_cores && self.dim.is_multiple_of(8) { 8 } else { 1 }
    }

    /// Distance of rows of scores, which are f32.
    pub fn score_stride(&self) -> usize {
        self.keys + if self.tensor_cores { 4 } else { 1 }
    }

    /// Distance of rows of weights, which have the type of the operands.
    pub fn weight_stride(&self) -> usize {
        self.keys + if self.tensor_cores { 8 } else { 1 }
    }

    /// Numbers in which fragments of the tensor cores are spread out for a moment; without them, none but for form's
    /// sake.
    pub fn scratch(&self) -> usize {
        if self.tensor_cores { TEAMS * SIDE * SIDE } else { 1 }
    }

    /// Units that share a row of scores.
    pub fn units_per_row(&self) -> usize {
        Self::units() / self.queries
    }

    /// Shared memory of a kernel.
    pub fn shared_bytes(&self, pass: Pass, operand_bytes: usize) -> usize {
        let (queries, keys) = (self.queries * self.row_stride(), self.keys * self.row_stride());
        let (scores, weights) = (self.queries * self.score_stride(), self.queries * self.weight_stride());
        let (operands, wide) = match pass {
            Pass::Forward => (queries + keys + weights, scores + self.queries + Self::units()),
            Pass::ByQueries => (2 * queries + keys + weights, 2 * scores),
            Pass::ByKeys => (2 * queries + 2 * keys + 2 * weights, 2 * scores),
        };
        operand_bytes * operands + 4 * (wide + self.scratch())
    }
}

/// Whether planes of [`TEAM`] units multiply tiles of bf16 and sum in f32.
fn tensor_cores(properties: &DeviceProperties) -> bool {
    let [bf16, f32] = [FloatKind::BF16, FloatKind::F32].map(|kind| StorageType::from(ElemType::Float(kind)));
    let side = SIDE as u32;
    let product = MmaConfig { a_type: bf16, b_type: bf16, cd_type: f32, m: side, n: side, k: side };
    let hardware = &properties.hardware;
    let team = TEAM as u32;
    properties.features.matmul.cmma.contains(&product)
        && (hardware.plane_size_min, hardware.plane_size_max) == (team, team)
}
