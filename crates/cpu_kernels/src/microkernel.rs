//! The one loop that all products are made of.

use pulp::Simd;

/// Inputs that are taken at a time.
pub(crate) const STEP: usize = 8;

/// Rows of inputs that [`tile`] takes at most.
pub(crate) const MAX_ROWS: usize = 12;

/// A panel: for each input, `VECTORS` vectors of weights, one weight for each column.
pub(crate) type Panel<S, const VECTORS: usize> = [[<S as Simd>::f32s; VECTORS]];

/// `numbers` as a panel.
#[inline(always)]
pub(crate) fn panel<S: Simd, const VECTORS: usize>(numbers: &[f32]) -> &Panel<S, VECTORS> {
    S::as_simd_f32s(numbers).0.as_chunks::<VECTORS>().0
}

/// Rows for which the sums of two vectors each stay in registers, of which AVX-512 has 32 and others 16.
#[inline(always)]
pub(crate) fn rows_at_a_time<S: Simd>() -> usize {
    if S::F32_LANES >= 16 { MAX_ROWS } else { MAX_ROWS / 2 }
}

/// The sums of `rows` times the columns of `panel`: over all inputs, in their order.
#[inline(always)]
pub(crate) fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: [&[f32]; ROWS],
    panel: &Panel<S, VECTORS>,
) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    let (steps, rest) = panel.as_chunks::<STEP>();
    let mut chunks: [&[[f32; STEP]]; ROWS] = [&[]; ROWS];
    let mut ends: [&[f32]; ROWS] = [&[]; ROWS];
    for ((chunks, end), row) in chunks.iter_mut().zip(&mut ends).zip(rows) {
        (*chunks, *end) = row.as_chunks();
    }
    for (step, weights) in steps.iter().enumerate() {
        let mut inputs = [&[0.0; STEP]; ROWS];
        for (input, chunks) in inputs.iter_mut().zip(chunks) {
            let Some(numbers) = chunks.get(step) else { return sums };
            *input = numbers;
        }
        for (place, weights) in weights.iter().enumerate() {
            for (sums, input) in sums.iter_mut().zip(inputs) {
                let Some(&number) = input.get(place) else { continue };
                let number = simd.splat_f32s(number);
                for (sum, &weight) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add_e_f32s(number, weight, *sum);
                }
            }
        }
    }
    for (place, weights) in rest.iter().enumerate() {
        for (sums, end) in sums.iter_mut().zip(ends) {
            let Some(&number) = end.get(place) else { continue };
            let number = simd.splat_f32s(number);
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(number, weight, *sum);
            }
        }
    }
    sums
}

/// What a sum becomes before it is written. (A closure would be compiled by itself, without the vectors of whoever calls it.)
pub(crate) trait Finish<S: Simd>: Copy {
    /// Of the vector `number` of a row, which goes to `here`.
    fn finish(self, simd: S, number: usize, sum: S::f32s, here: &[f32]) -> S::f32s;
}

/// Writes the `sums` of one row to `out`, as many as there is room for.
#[inline(always)]
pub(crate) fn write_row<S: Simd, const VECTORS: usize>(
    simd: S,
    sums: [S::f32s; VECTORS],
    mut out: &mut [f32],
    finish: impl Finish<S>,
) {
    for (number, sum) in sums.into_iter().enumerate() {
        let (here, rest) = out.split_at_mut(out.len().min(S::F32_LANES));
        let value = finish.finish(simd, number, sum, here);
        match S::as_mut_simd_f32s(here).0 {
            [whole] => *whole = value,
            _ => simd.partial_store_f32s(here, value),
        }
        out = rest;
    }
}

/// Cuts so many rows into runs as even as can be, none longer than [`rows_at_a_time`]: the first row and the number of each.
#[inline(always)]
pub(crate) fn runs<S: Simd>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(rows_at_a_time::<S>());
    let (length, longer) = (rows / count.max(1), rows % count.max(1));
    (0..count).map(move |run| (run * length + run.min(longer), length + usize::from(run < longer)))
}

/// Calls `$function::<S, ROWS>`, or without `S`, with the constant that equals `$rows`, at most [`MAX_ROWS`].
macro_rules! with_rows {
    ($rows:expr, $function:ident$(::<$simd:ident>)?($($argument:expr),* $(,)?)) => {
        match $rows {
            1 => $function::<$($simd,)? 1>($($argument),*),
            2 => $function::<$($simd,)? 2>($($argument),*),
            3 => $function::<$($simd,)? 3>($($argument),*),
            4 => $function::<$($simd,)? 4>($($argument),*),
            5 => $function::<$($simd,)? 5>($($argument),*),
            6 => $function::<$($simd,)? 6>($($argument),*),
            7 => $function::<$($simd,)? 7>($($argument),*),
            8 => $function::<$($simd,)? 8>($($argument),*),
            9 => $function::<$($simd,)? 9>($($argument),*),
            10 => $function::<$($simd,)? 10>($($argument),*),
            11 => $function::<$($simd,)? 11>($($argument),*),
            _ => $function::<$($simd,)? { $crate::microkernel::MAX_ROWS }>($($argument),*),
        }
    };
}
pub(crate) use with_rows;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::Scalar;

    use super::*;

    proptest! {
        #[test]
        fn runs_cover_all_rows_and_none_is_longer_than_registers_allow(rows in 0usize..200) {
            let mut next = 0;
            for (first, length) in runs::<Scalar>(rows) {
                prop_assert_eq!(first, next);
                prop_assert!((1..=rows_at_a_time::<Scalar>()).contains(&length));
                next += length;
            }
            prop_assert_eq!(next, rows);
        }
    }
}
