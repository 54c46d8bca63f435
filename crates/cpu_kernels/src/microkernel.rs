//! The inner loop of every product in f32: a tile of a few rows and one panel of columns.

use pulp::Simd;

use crate::{prefetch::prefetch_ahead, weight_lines::ReadLine};

/// Inputs that the loop multiplies in one iteration.
pub(crate) const UNROLL: usize = 8;

/// Largest number of rows in a tile.
pub(crate) const MAX_TILE_ROWS: usize = 12;

/// A panel of columns: `VECTORS` vectors of weights for each input, one weight for each column.
pub(crate) type Panel<S, const VECTORS: usize> = [[<S as Simd>::f32s; VECTORS]];

/// Returns `values` as a panel.
#[inline(always)]
pub(crate) fn as_panel<S: Simd, const VECTORS: usize>(values: &[f32]) -> &Panel<S, VECTORS> {
    S::as_simd_f32s(values).0.as_chunks::<VECTORS>().0
}

/// Returns the number of rows whose sums, two vectors each, fit into the registers.
///
/// AVX-512 has 32 vector registers, the other instruction sets 16.
#[inline(always)]
fn max_tile_rows<S: Simd>() -> usize {
    if S::F32_LANES >= 16 { MAX_TILE_ROWS } else { MAX_TILE_ROWS / 2 }
}

/// Multiplies `rows` by the columns of `panel`, whose lines `reader` reads.
///
/// Each sum runs over all inputs in their order.
#[inline(always)]
pub(crate) fn multiply_tile<S: Simd, const ROWS: usize, const VECTORS: usize, R: ReadLine<S, VECTORS>>(
    simd: S,
    rows: [&[f32]; ROWS],
    panel: &[R::Line],
    reader: R,
) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    let (chunks_of_weights, last_weights) = panel.as_chunks::<UNROLL>();
    let mut chunks: [&[[f32; UNROLL]]; ROWS] = [&[]; ROWS];
    let mut tails: [&[f32]; ROWS] = [&[]; ROWS];
    for ((chunks, tail), row) in chunks.iter_mut().zip(&mut tails).zip(rows) {
        (*chunks, *tail) = row.as_chunks();
    }
    for (index, weights) in chunks_of_weights.iter().enumerate() {
        let mut inputs = [&[0.0; UNROLL]; ROWS];
        for (input, chunks) in inputs.iter_mut().zip(chunks) {
            let Some(chunk) = chunks.get(index) else { return sums };
            *input = chunk;
        }
        for (offset, weights) in weights.iter().enumerate() {
            prefetch_ahead(weights);
            let weights = reader.read(simd, *weights);
            for (sums, input) in sums.iter_mut().zip(inputs) {
                let Some(&value) = input.get(offset) else { continue };
                let value = simd.splat_f32s(value);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add_e_f32s(value, weight, *sum);
                }
            }
        }
    }
    for (offset, &weights) in last_weights.iter().enumerate() {
        let weights = reader.read(simd, weights);
        for (sums, tail) in sums.iter_mut().zip(tails) {
            let Some(&value) = tail.get(offset) else { continue };
            let value = simd.splat_f32s(value);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(value, weight, *sum);
            }
        }
    }
    sums
}

/// Turns a sum into the value to write.
///
/// A trait and not a closure: the compiler would build a closure without the vector instructions of
/// its caller.
pub(crate) trait OutputOp<S: Simd>: Copy {
    /// Returns the value of vector `index` of a row. `current` holds the present values of the
    /// output.
    fn apply(self, simd: S, index: usize, sum: S::f32s, current: &[f32]) -> S::f32s;
}

/// A factor for every sum of a row.
#[derive(Clone, Copy)]
pub(crate) struct Scale(pub(crate) f32);

impl<S: Simd> OutputOp<S> for Scale {
    #[inline(always)]
    fn apply(self, simd: S, _: usize, sum: S::f32s, _: &[f32]) -> S::f32s {
        simd.mul_f32s(sum, simd.splat_f32s(self.0))
    }
}

/// Writes the `sums` of one row to `out`, up to the length of `out`.
#[inline(always)]
pub(crate) fn write_row<S: Simd>(
    simd: S,
    sums: impl IntoIterator<Item = S::f32s>,
    mut out: &mut [f32],
    output_op: impl OutputOp<S>,
) {
    for (index, sum) in sums.into_iter().enumerate() {
        let (current, rest) = out.split_at_mut(out.len().min(S::F32_LANES));
        let value = output_op.apply(simd, index, sum, current);
        match S::as_mut_simd_f32s(current).0 {
            [vector] => *vector = value,
            _ => simd.partial_store_f32s(current, value),
        }
        out = rest;
    }
}

/// Writes the `sums` of the columns of a panel to `out`, up to its length.
///
/// A whole panel is written without the tests that a shorter one needs.
#[inline(always)]
pub(crate) fn write_columns<S: Simd, const COLUMNS: usize>(
    simd: S,
    sums: &[f32; COLUMNS],
    out: &mut [f32],
    output_op: impl OutputOp<S>,
) {
    let (sums, _) = S::as_simd_f32s(sums);
    let Some(out) = out.first_chunk_mut::<COLUMNS>() else {
        return write_row(simd, sums.iter().copied(), out, output_op);
    };
    for (index, (out, &sum)) in out.chunks_exact_mut(S::F32_LANES).zip(sums).enumerate() {
        let value = output_op.apply(simd, index, sum, out);
        if let [vector] = S::as_mut_simd_f32s(out).0 {
            *vector = value;
        }
    }
}

/// Splits `rows` into tiles of nearly equal size: the first row and the number of rows of each.
#[inline(always)]
pub(crate) fn row_tiles<S: Simd>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(max_tile_rows::<S>());
    let (length, longer) = (rows / count.max(1), rows % count.max(1));
    (0..count).map(move |tile| (tile * length + tile.min(longer), length + usize::from(tile < longer)))
}

/// Calls `$function` with `$rows`, at most [`MAX_TILE_ROWS`], as its constant parameter.
///
/// The parameters before it are those that the macro's caller gives.
macro_rules! with_tile_rows {
    ($rows:expr, $function:ident$(::<$($generic:ident),+>)?($($argument:expr),* $(,)?)) => {
        match $rows {
            1 => $function::<$($($generic,)+)? 1>($($argument),*),
            2 => $function::<$($($generic,)+)? 2>($($argument),*),
            3 => $function::<$($($generic,)+)? 3>($($argument),*),
            4 => $function::<$($($generic,)+)? 4>($($argument),*),
            5 => $function::<$($($generic,)+)? 5>($($argument),*),
            6 => $function::<$($($generic,)+)? 6>($($argument),*),
            7 => $function::<$($($generic,)+)? 7>($($argument),*),
            8 => $function::<$($($generic,)+)? 8>($($argument),*),
            9 => $function::<$($($generic,)+)? 9>($($argument),*),
            10 => $function::<$($($generic,)+)? 10>($($argument),*),
            11 => $function::<$($($generic,)+)? 11>($($argument),*),
            _ => $function::<$($($generic,)+)? { $crate::microkernel::MAX_TILE_ROWS }>($($argument),*),
        }
    };
}
pub(crate) use with_tile_rows;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::Scalar;

    use super::*;

    proptest! {
        #[test]
        fn row_tiles_cover_all_rows_and_fit_registers(rows in 0usize..200) {
            let mut next = 0;
            for (first, length) in row_tiles::<Scalar>(rows) {
                prop_assert_eq!(first, next);
                prop_assert!((1..=max_tile_rows::<Scalar>()).contains(&length));
                next += length;
            }
            prop_assert_eq!(next, rows);
        }
    }
}
