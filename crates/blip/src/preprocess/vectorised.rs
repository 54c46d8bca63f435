//! The passes' inner loops, written so that the compiler makes vectors of them, and compiled twice:
//! for any processor and for those with AVX2, which is twice as fast. Both compute the same integers.

use super::taps::{PRECISION, Taps};

/// One half, to round by.
const HALF: i32 = 1 << (PRECISION - 1);

/// Every row of `rows` (`[_, taps.input, 3]`) scaled to `[_, taps.output, 3]`.
pub(super) fn horizontal(rows: &[u8], taps: &Taps) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "calls a function compiled for AVX2, which was just detected")]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::horizontal(rows, taps) };
    }
    portable::horizontal(rows, taps)
}

/// `rows` (`[taps.input, width, 3]`) scaled to `[taps.output, width, 3]`.
pub(super) fn vertical(rows: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "calls a function compiled for AVX2, which was just detected")]
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::vertical(rows, width, taps) };
    }
    portable::vertical(rows, width, taps)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Taps, portable};

    #[target_feature(enable = "avx2")]
    pub(super) fn horizontal(rows: &[u8], taps: &Taps) -> Vec<u8> {
        portable::horizontal(rows, taps)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn vertical(rows: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
        portable::vertical(rows, width, taps)
    }
}

mod portable {
    use super::{HALF, PRECISION, Taps};

    #[inline(always)]
    pub(super) fn horizontal(rows: &[u8], taps: &Taps) -> Vec<u8> {
        let height = rows.len() / (3 * taps.input);
        let mut out = vec![0; height * taps.output * 3];
        // Four bytes a pixel, so that a pixel is a vector; the fourth is never read out.
        let mut row4 = vec![[0u8; 4]; taps.input];
        for (row, out) in rows.chunks_exact(3 * taps.input).zip(out.chunks_exact_mut(3 * taps.output)) {
            for (wide, pixel) in row4.iter_mut().zip(row.as_chunks::<3>().0) {
                *wide = [pixel[0], pixel[1], pixel[2], 0];
            }
            let outputs = out.as_chunks_mut::<3>().0.iter_mut();
            for ((out, &start), weights) in
                outputs.zip(&taps.starts).zip(taps.weights.chunks_exact(taps.count))
            {
                let window = row4.get(start..start + taps.count).unwrap_or_default();
                let mut sums = [HALF; 4];
                for (pixel, &weight) in window.iter().zip(weights) {
                    for (sum, &sample) in sums.iter_mut().zip(pixel) {
                        *sum += weight * i32::from(sample);
                    }
                }
                let [r, g, b, _] = sums.map(to_sample);
                *out = [r, g, b];
            }
        }
        out
    }

    #[inline(always)]
    pub(super) fn vertical(rows: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
        /// Samples whose sums stay in registers together.
        const BLOCK: usize = 32;
        let line = 3 * width;
        let mut out = vec![0; taps.output * line];
        let outputs = out.chunks_exact_mut(line).zip(&taps.starts);
        for ((out, &start), weights) in outputs.zip(taps.weights.chunks_exact(taps.count)) {
            let window = rows.get(start * line..(start + taps.count) * line).unwrap_or_default();
            let blocks = out.len() / BLOCK * BLOCK;
            let (whole, rest) = out.split_at_mut(blocks);
            for (block, out) in whole.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                let mut sums = [HALF; BLOCK];
                for (row, &weight) in window.chunks_exact(line).zip(weights) {
                    let samples = row.get(block * BLOCK..).and_then(|row| row.first_chunk::<BLOCK>());
                    for (sum, &sample) in sums.iter_mut().zip(samples.into_iter().flatten()) {
                        *sum += weight * i32::from(sample);
                    }
                }
                *out = sums.map(to_sample);
            }
            for (column, out) in rest.iter_mut().enumerate() {
                let samples = window.chunks_exact(line).filter_map(|row| row.get(blocks + column));
                let sum: i32 =
                    samples.zip(weights).map(|(&sample, &weight)| weight * i32::from(sample)).sum();
                *out = to_sample(sum + HALF);
            }
        }
        out
    }

    #[inline(always)]
    fn to_sample(sum: i32) -> u8 {
        (sum >> PRECISION).clamp(0, 255) as u8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Filter;
    use super::*;

    /// The definition, one sample at a time.
    fn plainly(samples: impl Fn(usize) -> u8, taps: &Taps, output: usize) -> u8 {
        let weights = &taps.weights[output * taps.count..][..taps.count];
        let products = weights.iter().enumerate();
        let sum: i64 =
            products.map(|(k, &w)| i64::from(w) * i64::from(samples(taps.starts[output] + k))).sum();
        ((sum + i64::from(HALF)) >> PRECISION).clamp(0, 255) as u8
    }

    proptest! {
        #[test]
        fn passes_equal_their_definition_with_and_without_avx2(
            input in 1usize..60, output in 1usize..40, other in 1usize..30, seed: u64,
        ) {
            let taps = Taps::new(Filter::Bicubic, input, output);
            let mut state = seed | 1;
            let rows: Vec<u8> = (0..input * other * 3)
                .map(|_| { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (state >> 56) as u8 })
                .collect();

            let across = portable::horizontal(&rows, &taps);
            prop_assert_eq!(&horizontal(&rows, &taps), &across);
            for (at, &sample) in across.iter().enumerate() {
                let (row, x, c) = (at / 3 / output, at / 3 % output, at % 3);
                prop_assert_eq!(sample, plainly(|i| rows[(row * input + i) * 3 + c], &taps, x));
            }

            let down = portable::vertical(&rows, other, &taps);
            prop_assert_eq!(&vertical(&rows, other, &taps), &down);
            for (at, &sample) in down.iter().enumerate() {
                let (y, column) = (at / (3 * other), at % (3 * other));
                prop_assert_eq!(sample, plainly(|i| rows[i * other * 3 + column], &taps, y));
            }
        }
    }
}
