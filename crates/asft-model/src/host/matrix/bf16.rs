//! A product of two strided matrices of bf16 on one thread.
//!
//! Where the processor has it, by the instruction of AVX-512 that multiplies pairs of bf16 and adds both products to an
//! f32; no library does that. Elsewhere both operands are widened to f32. The operands are packed into panels that the
//! caches hold (after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"). An element is summed in
//! an order that depends on the inner dimension alone.

use half::bf16;

use super::{Destination, Factor, Into, Matrix};
use crate::host::Number;

impl<D: Number> Factor<D> for bf16 {
    fn has_instruction() -> bool {
        #[cfg(target_arch = "x86_64")]
        return x86::is_available();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    fn parts() -> usize {
        match <Self as Factor<D>>::has_instruction() {
            true => rayon::current_num_threads(),
            false => <f32 as Factor<f32>>::parts(),
        }
    }

    unsafe fn multiply(to: Destination<D>, into: Into, lhs: Matrix<'_, Self>, rhs: Matrix<'_, Self>) {
        #[cfg(target_arch = "x86_64")]
        if x86::is_available() {
            // SAFETY: the processor has the instructions, and the caller answers for the rest.
            return unsafe { x86::multiply(to, into, lhs, rhs) };
        }
        // SAFETY: as the caller promises.
        unsafe { widened(to, into, lhs, rhs) }
    }
}

/// [`Factor::multiply`] on any processor.
unsafe fn widened<D: Number>(to: Destination<D>, into: Into, lhs: Matrix<'_, bf16>, rhs: Matrix<'_, bf16>) {
    let [m, k, n] = [lhs.rows, lhs.columns, rhs.columns];
    if k == 0 {
        return;
    }
    let wide = |matrix: Matrix<'_, bf16>| -> Vec<f32> {
        let row = |i| (0..matrix.columns).map(move |j| i * matrix.row_stride + j * matrix.column_stride);
        (0..matrix.rows).flat_map(row).map(|at| matrix.data[at].get()).collect()
    };
    let (lhs, rhs, mut sums) = (wide(lhs), wide(rhs), vec![0.0; m * n]);
    let (lhs, rhs) = (Matrix::new(&lhs, [m, k], k), Matrix::new(&rhs, [k, n], n));
    let whole = Destination { data: sums.as_mut_ptr(), stride: n, factor: 1.0 };
    // SAFETY: the buffer has room for the product.
    unsafe { f32::multiply(whole, Into::Replace, lhs, rhs) };
    for (row, sums) in sums.chunks_exact(n).enumerate() {
        // SAFETY: the row is one of the destination's.
        unsafe { put(to.at(row, 0), into, sums) };
    }
}

/// Writes `to.factor · sums` to the start of a row or adds it there.
///
/// # Safety
/// So many elements must be writable at `to`, and for [`Into::Add`] initialised.
#[inline(always)]
unsafe fn put<D: Number>(to: Destination<D>, into: Into, sums: &[f32]) {
    for (column, sum) in sums.iter().enumerate() {
        // SAFETY: as the caller promises.
        unsafe {
            let element = to.data.add(column);
            let before = match into {
                Into::Replace => 0.0,
                Into::Add => element.read().get(),
            };
            element.write(D::put(before + to.factor * sum));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{
        arch::x86_64::{
            __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_loadu_si512,
            _mm512_permutex2var_epi32, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
            _mm512_storeu_ps, _mm512_storeu_si512,
        },
        cell::RefCell,
        mem,
    };

    use half::bf16;

    use super::{Destination, Into, Matrix, Number, put};

    /// Numbers of 32 bits in a vector.
    const LANES: usize = 16;
    /// Rows of a tile, whose sums stay in registers.
    const ROWS: usize = 12;
    /// Columns of a tile.
    const COLUMNS: usize = 2 * LANES;
    /// Rows of the left operand that are packed at a time: with [`INNER`] 400 kB, less than a core's own cache.
    const PACKED_ROWS: usize = 8 * ROWS;
    /// Products of an element that are summed in registers at a time.
    const INNER: usize = 2048;
    /// Numbers of the right operand that are packed at a time: 4 MB.
    const PACKED: usize = 1 << 21;

    /// Whether the processor has what [`multiply`] is made of.
    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }

    /// Pairs of bf16 in panels of `W` lines, rows of the left operand or columns of the right one: those of all lines at
    /// the first two places of the inner dimension, then those at the next two. What is missing is 0.
    #[derive(Default)]
    struct Panels<const W: usize> {
        lines: Vec<Line>,
    }

    /// As much as a vector holds, where a vector is read fastest.
    #[derive(Clone, Copy)]
    #[repr(align(64))]
    struct Line(#[expect(dead_code, reason = "read through pointers")] [u32; LANES]);

    impl<const W: usize> Panels<W> {
        /// Packs the columns of `matrix`.
        #[target_feature(enable = "avx512f")]
        fn pack(&mut self, matrix: Matrix<'_, bf16>) {
            let pairs = matrix.rows.div_ceil(2);
            let length = matrix.columns.div_ceil(W) * pairs * W;
            // A line more, since whole vectors are written.
            self.lines.resize((length.div_ceil(LANES) + 1).max(self.lines.len()), Line([0; LANES]));
            let room = self.lines.len() * LANES;
            // SAFETY: so many numbers lie there, side by side.
            let panels = unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), room) };
            for (number, first) in (0..matrix.columns).step_by(W).enumerate() {
                let panel = &mut panels[number * pairs * W..];
                let columns = matrix.columns(first, W);
                if columns.columns < W {
                    panel[..pairs * W].fill(0);
                }
                match columns.row_stride {
                    1 => across::<W>(panel, columns),
                    _ => along::<W>(panel, columns),
                }
            }
        }

        fn panel(&self, number: usize, pairs: usize) -> *const u32 {
            // Only the offset is computed here; whoever reads sees to the bounds.
            self.lines.as_ptr().cast::<u32>().wrapping_add(number * pairs * W)
        }
    }

    fn pair(first: bf16, second: bf16) -> u32 {
        u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
    }

    /// Packs columns whose neighbours lie side by side.
    #[inline(always)]
    fn along<const W: usize>(panel: &mut [u32], columns: Matrix<'_, bf16>) {
        let zeros = [bf16::ZERO; W];
        let row = |row: usize| match row < columns.rows {
            true if columns.column_stride == 1 => {
                &columns.data[row * columns.row_stride..][..columns.columns]
            }
            true => panic!("neither rows nor columns lie side by side"),
            false => &zeros[..columns.columns],
        };
        for (pairs, first) in panel.chunks_exact_mut(W).zip((0..columns.rows).step_by(2)) {
            let (first, second) = (row(first), row(first + 1));
            match (<&[_; W]>::try_from(first), <&[_; W]>::try_from(second)) {
                // A known length makes vectors of the loop.
                (Ok(first), Ok(second)) => {
                    for i in 0..W {
                        pairs[i] = pair(first[i], second[i]);
                    }
                }
                _ => {
                    for ((pairs, &first), &second) in pairs.iter_mut().zip(first).zip(second) {
                        *pairs = pair(first, second);
                    }
                }
            }
        }
    }

    /// Packs columns whose elements lie side by side. What lies behind the panel may be overwritten, as far as a vector
    /// reaches.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn across<const W: usize>(panel: &mut [u32], columns: Matrix<'_, bf16>) {
        let column = |number: usize| &columns.data[number * columns.column_stride..][..columns.rows];
        // As many pairs of as many columns as a vector has lanes change places in registers.
        let steps = if columns.columns == W { columns.rows / (2 * LANES) } else { 0 };
        for step in 0..steps {
            for block in (0..W).step_by(LANES) {
                let mut vectors = [_mm512_setzero_si512(); LANES];
                for (lane, vector) in vectors.iter_mut().take(W - block).enumerate() {
                    let pairs = &column(block + lane)[step * 2 * LANES..][..2 * LANES];
                    // SAFETY: a vector's length was just cut out.
                    *vector = unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) };
                }
                transpose(&mut vectors);
                for (place, vector) in vectors.into_iter().enumerate() {
                    let to = &mut panel[(step * LANES + place) * W + block..][..LANES];
                    // SAFETY: a vector's length was just cut out.
                    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), vector) };
                }
            }
        }
        let done = steps * LANES;
        for number in 0..columns.columns {
            let rest = column(number)[2 * done..].chunks(2);
            for (pairs, values) in panel.chunks_exact_mut(W).skip(done).zip(rest) {
                pairs[number] = pair(values[0], values.get(1).copied().unwrap_or(bf16::ZERO));
            }
        }
    }

    /// For squares of 1, 2, 4 and 8, which lanes of two vectors, those of the second counting on, make up the vectors in which
    /// the squares off the diagonal have changed places.
    const SWAPS: [[[i32; LANES]; 2]; 4] = {
        let mut swaps = [[[0; LANES]; 2]; 4];
        let mut step = 0;
        while step < 4 {
            let (side, mut lane) = (1 << step, 0);
            while lane < LANES {
                swaps[step][0][lane] = if lane & side == 0 { lane } else { LANES + lane - side } as i32;
                swaps[step][1][lane] = if lane & side == 0 { lane + side } else { LANES + lane } as i32;
                lane += 1;
            }
            step += 1;
        }
        swaps
    };

    /// Element j of vector i and element i of vector j change places.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(vectors: &mut [__m512i; LANES]) {
        for (step, swaps) in SWAPS.iter().enumerate() {
            // SAFETY: a vector's length is there.
            let [first, second] = unsafe {
                [_mm512_loadu_si512(swaps[0].as_ptr().cast()), _mm512_loadu_si512(swaps[1].as_ptr().cast())]
            };
            let side = 1 << step;
            for i in 0..LANES {
                if i & side == 0 {
                    let (a, b) = (vectors[i], vectors[i + side]);
                    vectors[i] = _mm512_permutex2var_epi32(a, first, b);
                    vectors[i + side] = _mm512_permutex2var_epi32(a, second, b);
                }
            }
        }
    }

    /// Sums of a tile, row by row, over `pairs` of a panel of each operand.
    ///
    /// # Safety
    /// Panels of so many pairs must lie at `lhs` and, from a whole line on, at `rhs`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile(lhs: *const u32, rhs: *const u32, pairs: usize, out: &mut [f32; ROWS * COLUMNS]) {
        // SAFETY: both are 64 bytes without meaning of their own.
        let halves = |vector: __m512i| unsafe { mem::transmute::<__m512i, __m512bh>(vector) };
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for at in 0..pairs {
            // SAFETY: as the caller promises.
            let (first, second, rows) = unsafe {
                let columns = rhs.add(at * COLUMNS);
                let [first, second] =
                    [_mm512_load_si512(columns.cast()), _mm512_load_si512(columns.add(LANES).cast())];
                (halves(first), halves(second), lhs.add(at * ROWS).cast::<[i32; ROWS]>().read())
            };
            for row in 0..ROWS {
                let number = halves(_mm512_set1_epi32(rows[row]));
                sums[row][0] = _mm512_dpbf16_ps(sums[row][0], number, first);
                sums[row][1] = _mm512_dpbf16_ps(sums[row][1], number, second);
            }
        }
        for (out, sums) in out.chunks_exact_mut(COLUMNS).zip(sums) {
            for (out, sums) in out.chunks_exact_mut(LANES).zip(sums) {
                // SAFETY: a vector's length was just cut out.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
            }
        }
    }

    /// What a thread keeps from one product to the next, as large as the largest so far.
    #[derive(Default)]
    struct Scratch {
        lhs: Panels<ROWS>,
        rhs: Panels<COLUMNS>,
        /// Sums over the inner dimension so far, where it is longer than [`INNER`].
        sums: Vec<f32>,
    }

    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }

    /// See [`super::Factor::multiply`]; the processor must have what [`is_available`] asks for.
    pub unsafe fn multiply<D: Number>(
        to: Destination<D>,
        into: Into,
        lhs: Matrix<'_, bf16>,
        rhs: Matrix<'_, bf16>,
    ) {
        // SAFETY: as the caller promises.
        SCRATCH.with_borrow_mut(|scratch| unsafe { multiply_with(scratch, to, into, lhs, rhs) });
    }

    #[target_feature(enable = "avx512f,avx512bf16,avx512bw,avx512dq,avx512vl")]
    unsafe fn multiply_with<D: Number>(
        scratch: &mut Scratch,
        to: Destination<D>,
        into: Into,
        lhs: Matrix<'_, bf16>,
        rhs: Matrix<'_, bf16>,
    ) {
        let [m, k, n] = [lhs.rows, lhs.columns, rhs.columns];
        let Scratch { lhs: packed_lhs, rhs: packed_rhs, sums } = scratch;
        let packed_columns = (PACKED / k.clamp(1, INNER)).next_multiple_of(COLUMNS);
        let mut tile_sums = [0.0; ROWS * COLUMNS];
        for first_column in (0..n).step_by(packed_columns) {
            let rhs = rhs.columns(first_column, packed_columns);
            let columns = rhs.columns;
            if k > INNER {
                sums.resize(m * columns, 0.0);
            }
            for start in (0..k).step_by(INNER) {
                let (rhs, lhs) = (rhs.rows(start, INNER), lhs.columns(start, INNER));
                let (is_first, is_last) = (start == 0, start + rhs.rows == k);
                let pairs = rhs.rows.div_ceil(2);
                packed_rhs.pack(rhs);
                for first_row in (0..m).step_by(PACKED_ROWS) {
                    let lhs = lhs.rows(first_row, PACKED_ROWS);
                    packed_lhs.pack(lhs.transpose());
                    for column in (0..columns).step_by(COLUMNS) {
                        let width = COLUMNS.min(columns - column);
                        let rhs = packed_rhs.panel(column / COLUMNS, pairs);
                        for row in (0..lhs.rows).step_by(ROWS) {
                            let panel = packed_lhs.panel(row / ROWS, pairs);
                            // SAFETY: both panels were packed just now; those of the right operand begin at lines.
                            unsafe { tile(panel, rhs, pairs, &mut tile_sums) };
                            let rows = first_row + row..first_row + lhs.rows.min(row + ROWS);
                            for (row, tile) in rows.zip(tile_sums.chunks_exact_mut(COLUMNS)) {
                                let tile = &mut tile[..width];
                                let before = row * columns + column;
                                if !is_first {
                                    let before = &sums[before..][..width];
                                    tile.iter_mut().zip(before).for_each(|(sum, before)| *sum += before);
                                }
                                if !is_last {
                                    sums[before..][..width].copy_from_slice(tile);
                                    continue;
                                }
                                // SAFETY: the row and the columns are the destination's.
                                unsafe {
                                    let to = to.at(row, first_column + column);
                                    // A known length makes vectors of the loop.
                                    match <&[f32; COLUMNS]>::try_from(&*tile) {
                                        Ok(tile) => put(to, into, tile),
                                        Err(_) => put(to, into, tile),
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `0.5 lhs rhs` added to a destination of 2s whose rows have a column more, or written there.
    type Run<D> = fn(Destination<D>, Into, Matrix<'_, bf16>, Matrix<'_, bf16>);

    fn ways<D: Number>() -> Vec<(&'static str, Run<D>)> {
        // SAFETY: `check` makes destinations that have room for the product.
        let mut ways: Vec<(&'static str, Run<D>)> =
            vec![("widened", |to, into, lhs, rhs| unsafe { widened(to, into, lhs, rhs) })];
        #[cfg(target_arch = "x86_64")]
        if x86::is_available() {
            // SAFETY: as above, and the processor has the instructions.
            ways.push(("avx512bf16", |to, into, lhs, rhs| unsafe { x86::multiply(to, into, lhs, rhs) }));
        }
        ways
    }

    fn numbers(count: usize) -> Vec<bf16> {
        (0..count).map(|i| <bf16 as Number>::put((i as f32 * 0.37).sin())).collect()
    }

    /// Every element in every order of the operands, and that a part has the bits of the whole.
    fn check<D: Number>([m, k, n]: [usize; 3], tolerance: f64) {
        // Rows are three longer than they need be.
        let (a, b) = (numbers((m + 3) * (k + 3)), numbers((k + 3) * (n + 3)));
        for (name, multiply) in ways::<D>() {
            let run = |lhs: Matrix<'_, bf16>, rhs: Matrix<'_, bf16>, into| {
                let stride = rhs.columns + 1;
                let mut out = vec![D::put(2.0); lhs.rows * stride];
                multiply(Destination { data: out.as_mut_ptr(), stride, factor: 0.5 }, into, lhs, rhs);
                out.into_iter().map(D::get).collect::<Vec<f32>>()
            };
            for [left, right] in [[false, false], [false, true], [true, false], [true, true]] {
                let name = format!("{name}, {m} x {k} x {n}, {left}, {right}");
                let matrix = |data, transposed, [rows, columns]: [usize; 2]| match transposed {
                    true => Matrix::new(data, [columns, rows], rows + 3).transpose(),
                    false => Matrix::new(data, [rows, columns], columns + 3),
                };
                let (lhs, rhs) = (matrix(&a, left, [m, k]), matrix(&b, right, [k, n]));
                let at = |matrix: Matrix<'_, bf16>, i: usize, j: usize| {
                    f64::from(matrix.data[i * matrix.row_stride + j * matrix.column_stride].get())
                };
                let (added, replaced) = (run(lhs, rhs, Into::Add), run(lhs, rhs, Into::Replace));
                let wide = n + 1;
                for i in 0..m {
                    assert_eq!((added[i * wide + n], replaced[i * wide + n]), (2.0, 2.0), "{name}");
                    for j in 0..n {
                        let terms = || (0..k).map(|l| at(lhs, i, l) * at(rhs, l, j) / 2.0);
                        let (expected, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                        let got = [(added[i * wide + j], expected + 2.0), (replaced[i * wide + j], expected)];
                        for (got, expected) in got {
                            let allowed = 1e-5 * (2.0 + size) + tolerance * expected.abs();
                            assert!(
                                (f64::from(got) - expected).abs() <= allowed,
                                "{name}: {got} at {i}, {j}, not {expected}"
                            );
                        }
                    }
                }
                let (row, column) = (m / 3, n / 2);
                let part = run(lhs.rows(row, 17), rhs.columns(column, 23), Into::Add);
                let (rows, columns) = (17.min(m - row), 23.min(n - column));
                for i in 0..rows {
                    let from = (row + i) * wide + column;
                    assert_eq!(part[i * (columns + 1)..][..columns], added[from..from + columns], "{name}");
                }
            }
        }
    }

    #[test]
    fn every_element_is_its_sum_of_products() {
        let shapes = [
            [1, 1, 1],
            [7, 1, 5],
            [12, 2, 32],
            [13, 33, 64],
            [24, 32, 33],
            [150, 33, 131],
            [97, 66, 40],
            [5, 31, 1100],
            [20, 4200, 70],
        ];
        for shape in shapes {
            check::<f32>(shape, 0.0);
            // Half the distance to the next bf16.
            check::<bf16>(shape, 1.0 / 256.0);
        }
    }
}
