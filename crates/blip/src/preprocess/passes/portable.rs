//! The passes on any processor, in scalar integer arithmetic.

use crate::preprocess::taps::{PRECISION, Taps};

/// One half in fixed point, which rounds a sum.
pub(super) const HALF: i32 = 1 << (PRECISION - 1);

/// Runs the horizontal pass: scales `row` `[taps.input, 3]` to `out` `[taps.output, 3]`.
pub(super) fn horizontal(row: &[u8], taps: &Taps, out: &mut [u8]) {
    let outputs = out.as_chunks_mut::<3>().0.iter_mut();
    for ((out, &start), weights) in outputs.zip(&taps.starts).zip(taps.weights.chunks_exact(taps.count)) {
        let window = row.get(3 * start..3 * (start + taps.count)).unwrap_or_default();
        let mut sums = [HALF; 3];
        for (pixel, &weight) in window.as_chunks::<3>().0.iter().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum += weight * i32::from(sample);
            }
        }
        *out = sums.map(to_sample);
    }
}

/// Runs the vertical pass for the columns of `rows` from `first` on.
pub(super) fn vertical_pass_from(rows: &[&[u8]], weights: &[i32], first: usize, out: &mut [u8]) {
    let mut sums = vec![HALF; out.len()];
    for (row, &weight) in rows.iter().zip(weights) {
        for (sum, &sample) in sums.iter_mut().zip(row.iter().skip(first)) {
            *sum += weight * i32::from(sample);
        }
    }
    for (out, &sum) in out.iter_mut().zip(&sums) {
        *out = to_sample(sum);
    }
}

fn to_sample(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
