//! One row of each pass, in two implementations that compute equal integers: for any processor, and
//! for processors with AVX2, which is several times as fast.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use crate::preprocess::taps::Taps;

/// The horizontal pass.
#[derive(Debug)]
pub(super) enum HorizontalPass<'a> {
    /// For any processor.
    Portable(&'a Taps),
    /// For processors with AVX2. Created only after detection.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::HorizontalPass<'a>),
}

impl<'a> HorizontalPass<'a> {
    pub(super) fn new(taps: &'a Taps) -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Self::Avx2(avx2::HorizontalPass::new(taps));
        }
        Self::Portable(taps)
    }

    /// Scales `row` `[taps.input, 3]` to `out` `[taps.output, 3]`.
    pub(super) fn scale(&mut self, row: &[u8], out: &mut [u8]) {
        match self {
            Self::Portable(taps) => portable::horizontal(row, taps, out),
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls a safe function that is compiled for AVX2")]
            // SAFETY: this variant is created only on a processor with AVX2.
            Self::Avx2(horizontal) => unsafe { horizontal.scale(row, out) },
        }
    }
}

/// Runs the vertical pass for one row: `out` is the sum of `rows` by their `weights`. All rows have
/// the length of `out`.
pub(super) fn vertical_pass(rows: &[&[u8]], weights: &[i32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "calls a safe function that is compiled for AVX2")]
        // SAFETY: the condition above detected AVX2.
        return unsafe { avx2::vertical_pass(rows, weights, out) };
    }
    portable::vertical_pass_from(rows, weights, 0, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{portable::HALF, *};
    use crate::preprocess::{filter::Filter, taps::PRECISION};

    /// Computes one output sample by its definition.
    fn expected_sample(samples: impl Iterator<Item = u8>, weights: &[i32]) -> u8 {
        let sum: i64 =
            samples.zip(weights).map(|(sample, &weight)| i64::from(weight) * i64::from(sample)).sum();
        ((sum + i64::from(HALF)) >> PRECISION).clamp(0, 255) as u8
    }

    /// Returns `length` samples. Many are black or white, so that sums overshoot.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match (state >> 40) as u8 {
                0..=63 => 0,
                64..=127 => 255,
                _ => (state >> 56) as u8,
            }
        };
        (0..length).map(|_| next()).collect()
    }

    proptest! {
        #[test]
        fn horizontal_pass_equals_its_definition_on_any_processor(
            input in 1usize..60, output in 1usize..40, seed: u64,
        ) {
            let taps = Taps::new(Filter::Bicubic, input, output);
            let row = noise(seed, 3 * input);
            let expected: Vec<u8> = (0..3 * output)
                .map(|at| {
                    let weights = &taps.weights[at / 3 * taps.count..][..taps.count];
                    let first = 3 * taps.starts[at / 3] + at % 3;
                    expected_sample(row.iter().skip(first).step_by(3).copied(), weights)
                })
                .collect();
            for mut horizontal in [HorizontalPass::new(&taps), HorizontalPass::Portable(&taps)] {
                let mut out = vec![0; 3 * output];
                horizontal.scale(&row, &mut out);
                prop_assert_eq!(&out, &expected, "{:?}", horizontal);
            }
        }

        #[test]
        fn vertical_pass_equals_its_definition_on_any_processor(
            input in 1usize..60, output in 1usize..40, line in 1usize..100, seed: u64,
        ) {
            let taps = Taps::new(Filter::Bicubic, input, output);
            let samples = noise(seed, input * line);
            let rows: Vec<&[u8]> = samples.chunks_exact(line).collect();
            for (&start, weights) in taps.starts.iter().zip(taps.weights.chunks_exact(taps.count)) {
                let window = &rows[start..start + taps.count];
                let expected: Vec<u8> = (0..line)
                    .map(|column| expected_sample(window.iter().map(|row| row[column]), weights))
                    .collect();
                let mut out = vec![0; line];
                vertical_pass(window, weights, &mut out);
                prop_assert_eq!(&out, &expected);
                portable::vertical_pass_from(window, weights, 0, &mut out);
                prop_assert_eq!(&out, &expected);
            }
        }
    }
}
