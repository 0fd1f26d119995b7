//! Products of tiles in shared memory.
//!
//! A product is made of tiles of 16 × 16, each by one team of 32 units: by the tensor cores, or by units that have eight
//! numbers of a tile each. Both read and write the same places, so that one can be tested for the other.

#![allow(clippy::too_many_arguments, reason = "a kernel gets its tensors one by one")]

use cubecl::{cmma, prelude::*};

use super::tiling::{SIDE, TEAM, Tiling};

/// Numbers of a tile that a unit has.
const SHARE: usize = SIDE * SIDE / TEAM;

/// The shape of a product.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Whether the tensor cores multiply.
    pub tensor_cores: bool,
}

impl Shape {
    /// Tiles of a row of tiles.
    fn across(&self) -> usize {
        self.columns / SIDE
    }

    /// Tiles of the result.
    fn tiles(&self) -> usize {
        self.rows / SIDE * self.across()
    }

    /// Tiles of a team: successive ones, the last teams may have fewer.
    fn per_team(&self) -> usize {
        self.tiles().div_ceil(Tiling::units() / TEAM)
    }

    /// Whether all tiles of a team are in one row of tiles.
    fn one_row(&self) -> bool {
        self.across().is_multiple_of(self.per_team())
    }

    /// Whether all teams have as many tiles.
    fn even(&self) -> bool {
        self.tiles() == self.per_team() * (Tiling::units() / TEAM)
    }
}

/// An operand in shared memory.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Operand {
    /// Distance of its rows.
    pub stride: usize,
    /// Whether its columns, as it lies there, are the rows of the factor.
    pub transposed: bool,
    /// Numbers of an element of the memory.
    pub vector: usize,
}

/// A unit's part of a result: fragments of the tensor cores, or numbers.
#[derive(CubeType)]
pub struct Accumulator {
    fragments: Sequence<cmma::Matrix<f32>>,
    numbers: Array<f32>,
}

/// A result of zeros.
#[cube]
pub fn zeros(#[comptime] shape: Shape) -> Accumulator {
    let mut fragments = Sequence::<cmma::Matrix<f32>>::new();
    let length = comptime!(if shape.tensor_cores { 1 } else { shape.per_team() * SHARE });
    let mut numbers = Array::<f32>::new(length);
    if comptime!(shape.tensor_cores) {
        #[unroll]
        for _ in 0..comptime!(shape.per_team()) {
            fragments.push(cmma::Matrix::<f32>::from_value(
                cmma::MatrixIdent::Accumulator,
                SIDE,
                SIDE,
                SIDE,
                cmma::MatrixLayout::Undefined,
                0.0f32,
            ));
        }
    } else {
        #[unroll]
        for place in 0..length {
            numbers[place] = 0.0f32;
        }
    }
    Accumulator { fragments, numbers }
}

#[cube]
fn team() -> usize {
    UNIT_POS as usize / TEAM
}

/// The row of a tile in which a unit's number is.
#[cube]
fn row_in_tile(#[comptime] number: usize) -> usize {
    UNIT_POS as usize % TEAM / 8 * 4 + comptime!(number / 2)
}

/// The column of a tile in which a unit's number is.
#[cube]
fn column_in_tile(#[comptime] number: usize) -> usize {
    UNIT_POS as usize % 8 + comptime!(number % 2 * 8)
}

/// Adds `left right` for `depth` columns of the left factor and rows of the right one. Without tensor cores elements are
/// single numbers.
#[cube]
pub fn add_product<A: CubePrimitive, B: CubePrimitive>(
    sum: &mut Accumulator,
    left: &SharedMemory<A>,
    right: &SharedMemory<B>,
    #[comptime] left_as: Operand,
    #[comptime] right_as: Operand,
    #[comptime] depth: usize,
    #[comptime] shape: Shape,
) {
    if comptime!(shape.tensor_cores) {
        add_fragments::<A, B>(sum, left, right, left_as, right_as, depth, shape);
    } else {
        add_numbers::<A, B>(sum, left, right, left_as, right_as, depth, shape);
    }
}

#[cube]
fn add_fragments<A: CubePrimitive, B: CubePrimitive>(
    sum: &mut Accumulator,
    left: &SharedMemory<A>,
    right: &SharedMemory<B>,
    #[comptime] left_as: Operand,
    #[comptime] right_as: Operand,
    #[comptime] depth: usize,
    #[comptime] shape: Shape,
) {
    let first = team() * comptime!(shape.per_team());
    #[unroll]
    for step in 0..comptime!(depth / SIDE) {
        if comptime!(shape.one_row() && shape.even()) {
            let row = first / comptime!(shape.across()) * SIDE;
            let a = left_fragment::<A>(left, row, step * SIDE, left_as);
            #[unroll]
            for tile in 0..comptime!(shape.per_team()) {
                let column = (first + tile) % comptime!(shape.across()) * SIDE;
                let b = right_fragment::<B>(right, step * SIDE, column, right_as);
                let fragment = sum.fragments.index(tile);
                cmma::execute::<A, B, f32, f32>(&a, &b, fragment, fragment);
            }
        } else {
            #[unroll]
            for tile in 0..comptime!(shape.per_team()) {
                if first + tile < comptime!(shape.tiles()) {
                    let row = (first + tile) / comptime!(shape.across()) * SIDE;
                    let column = (first + tile) % comptime!(shape.across()) * SIDE;
                    let a = left_fragment::<A>(left, row, step * SIDE, left_as);
                    let b = right_fragment::<B>(right, step * SIDE, column, right_as);
                    let fragment = sum.fragments.index(tile);
                    cmma::execute::<A, B, f32, f32>(&a, &b, fragment, fragment);
                }
            }
        }
    }
}

#[cube]
fn left_fragment<A: CubePrimitive>(
    from: &SharedMemory<A>,
    row: usize,
    column: usize,
    #[comptime] operand: Operand,
) -> cmma::Matrix<A> {
    let start = place(row, column, operand) / comptime!(operand.vector);
    cmma::Matrix::<A>::from_slice(
        cmma::MatrixIdent::A,
        SIDE,
        SIDE,
        SIDE,
        comptime!(layout(operand)),
        &from.slice(start, from.len()),
        comptime!(operand.stride as u32),
    )
}

#[cube]
fn right_fragment<B: CubePrimitive>(
    from: &SharedMemory<B>,
    row: usize,
    column: usize,
    #[comptime] operand: Operand,
) -> cmma::Matrix<B> {
    let start = place(row, column, operand) / comptime!(operand.vector);
    cmma::Matrix::<B>::from_slice(
        cmma::MatrixIdent::B,
        SIDE,
        SIDE,
        SIDE,
        comptime!(layout(operand)),
        &from.slice(start, from.len()),
        comptime!(operand.stride as u32),
    )
}

fn layout(operand: Operand) -> cmma::MatrixLayout {
    match operand.transposed {
        true => cmma::MatrixLayout::ColMajor,
        false => cmma::MatrixLayout::RowMajor,
    }
}

/// Where a factor's number lies.
#[cube]
fn place(row: usize, column: usize, #[comptime] operand: Operand) -> usize {
    if comptime!(operand.transposed) {
        column * comptime!(operand.stride) + row
    } else {
        row * comptime!(operand.stride) + column
    }
}

#[cube]
fn add_numbers<A: CubePrimitive, B: CubePrimitive>(
    sum: &mut Accumulator,
    left: &SharedMemory<A>,
    right: &SharedMemory<B>,
    #[comptime] left_as: Operand,
    #[comptime] right_as: Operand,
    #[comptime] depth: usize,
    #[comptime] shape: Shape,
) {
    let first = team() * comptime!(shape.per_team());
    #[unroll]
    for tile in 0..comptime!(shape.per_team()) {
        if first + tile < comptime!(shape.tiles()) {
            let row = (first + tile) / comptime!(shape.across()) * SIDE + row_in_tile(0usize);
            let column = (first + tile) % comptime!(shape.across()) * SIDE + column_in_tile(0usize);
            for step in 0..depth {
                let b_0 = f32::cast_from(right[place(step, column, right_as)]);
                let b_1 = f32::cast_from(right[place(step, column + 8, right_as)]);
                #[unroll]
                for down in 0..comptime!(SHARE / 2) {
                    let a = f32::cast_from(left[place(row + down, step, left_as)]);
                    sum.numbers[comptime!(tile * SHARE + 2 * down)] += a * b_0;
                    sum.numbers[comptime!(tile * SHARE + 2 * down + 1)] += a * b_1;
                }
            }
        }
    }
}

/// Writes a result to shared memory.
#[cube]
pub fn store(
    result: &Accumulator,
    out: &mut SharedMemory<f32>,
    #[comptime] stride: usize,
    #[comptime] shape: Shape,
) {
    let first = team() * comptime!(shape.per_team());
    #[unroll]
    for tile in 0..comptime!(shape.per_team()) {
        if first + tile < comptime!(shape.tiles()) {
            let row = (first + tile) / comptime!(shape.across()) * SIDE;
            let column = (first + tile) % comptime!(shape.across()) * SIDE;
            if comptime!(shape.tensor_cores) {
                let start = row * stride + column;
                let end = out.len();
                cmma::store(
                    &mut out.slice_mut(start, end),
                    result.fragments.index(tile),
                    comptime!(stride as u32),
                    cmma::MatrixLayout::RowMajor,
                );
            } else {
                #[unroll]
                for number in 0..SHARE {
                    let at = (row + row_in_tile(number)) * stride + column + column_in_tile(number);
                    out[at] = result.numbers[comptime!(tile * SHARE + number)];
                }
            }
        }
    }
}

/// Multiplies each row by its factor.
#[cube]
pub fn scale_rows(
    result: &mut Accumulator,
    factors: &SharedMemory<f32>,
    scratch: &mut SharedMemory<f32>,
    #[comptime] shape: Shape,
) {
    let first = team() * comptime!(shape.per_team());
    #[unroll]
    for tile in 0..comptime!(shape.per_team()) {
        if first + tile < comptime!(shape.tiles()) {
            let row = (first + tile) / comptime!(shape.across()) * SIDE;
            if comptime!(shape.tensor_cores) {
                // Mostly there is nothing to do, which all units of the team find alike.
                let mut least = 1.0f32;
                for down in 0..SIDE {
                    least = min(least, factors[row + down]);
                }
                if least < 1.0f32 {
                    let fragment = result.fragments.index(tile);
                    spread(fragment, scratch);
                    #[unroll]
                    for number in 0..SHARE {
                        scratch[scratch_place(number)] *= factors[row + row_in_tile(number)];
                    }
                    sync_plane();
                    let start = team() * comptime!(SIDE * SIDE);
                    cmma::load_with_layout(
                        fragment,
                        &scratch.slice(start, start + comptime!(SIDE * SIDE)),
                        comptime!(SIDE as u32),
                        cmma::MatrixLayout::RowMajor,
                    );
                    sync_plane();
                }
            } else {
                #[unroll]
                for number in 0..SHARE {
                    result.numbers[comptime!(tile * SHARE + number)] *= factors[row + row_in_tile(number)];
                }
            }
        }
    }
}

/// Writes a fragment where all units of the team can read it.
#[cube]
fn spread(fragment: &cmma::Matrix<f32>, scratch: &mut SharedMemory<f32>) {
    let start = team() * comptime!(SIDE * SIDE);
    cmma::store(
        &mut scratch.slice_mut(start, start + comptime!(SIDE * SIDE)),
        fragment,
        comptime!(SIDE as u32),
        cmma::MatrixLayout::RowMajor,
    );
    sync_plane();
}

/// Where [`spread`] put a number that is a unit's.
#[cube]
fn scratch_place(#[comptime] number: usize) -> usize {
    (team() * SIDE + row_in_tile(number)) * SIDE + column_in_tile(number)
}

/// Where in a tensor the rows of a result go.
#[derive(CubeType, Clone, Copy)]
pub struct Destination {
    /// Row of the tensor for the first row.
    pub first: usize,
    /// Row of the tensor from which on there is nothing to write.
    pub end: usize,
    /// Place of the first number in a row of the tensor.
    pub column: usize,
}

/// Writes a result times `factor`, of which `dim` columns count.
#[cube]
pub fn write<E: Float>(
    result: &Accumulator,
    factor: f32,
    scratch: &mut SharedMemory<f32>,
    out: &mut Array<E>,
    to: Destination,
    #[comptime] row_length: usize,
    #[comptime] dim: usize,
    #[comptime] shape: Shape,
) {
    let first = team() * comptime!(shape.per_team());
    #[unroll]
    for tile in 0..comptime!(shape.per_team()) {
        if first + tile < comptime!(shape.tiles()) {
            if comptime!(shape.tensor_cores) {
                spread(result.fragments.index(tile), scratch);
            }
            #[unroll]
            for number in 0..SHARE {
                let row = (first + tile) / comptime!(shape.across()) * SIDE + row_in_tile(number);
                let column = (first + tile) % comptime!(shape.across()) * SIDE + column_in_tile(number);
                if to.first + row < to.end && column < dim {
                    let value = if comptime!(shape.tensor_cores) {
                        scratch[scratch_place(number)]
                    } else {
                        result.numbers[comptime!(tile * SHARE + number)]
                    };
                    out[(to.first + row) * row_length + to.column + column] = E::cast_from(value * factor);
                }
            }
            if comptime!(shape.tensor_cores) {
                sync_plane();
            }
        }
    }
}
