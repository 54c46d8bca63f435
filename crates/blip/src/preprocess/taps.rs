//! Taps: the input pixels of each output pixel, with fixed-point weights.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::preprocess::filter::Filter;

/// Bits after the point. With 8 bits of the sample and 2 bits for the filter's overshoot they fill
/// 32 bits.
pub(super) const PRECISION: u32 = 32 - 8 - 2;

/// Taps of one axis, from `input` pixels to `output` pixels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taps {
    pub(super) input: usize,
    pub(super) output: usize,
    /// Number of taps of each output pixel. The last ones may have weight 0.
    pub(super) count: usize,
    /// First input pixel of each output pixel. `starts[i] + count <= input`.
    pub(super) starts: Vec<usize>,
    /// Weights `[output, count]` in units of `2^-PRECISION`.
    pub(super) weights: Vec<i32>,
}

impl Taps {
    /// Computes the taps from `input` to `output` pixels, both above 0, with Pillow's arithmetic.
    pub(super) fn new(filter: Filter, input: usize, output: usize) -> Self {
        if filter == Filter::Nearest {
            return Self::nearest(input, output);
        }
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let exact: Vec<(usize, Vec<f64>)> = (0..output)
            .map(|i| {
                let centre = (i as f64 + 0.5) * scale;
                let start = (centre - support + 0.5).max(0.0) as usize;
                let end = ((centre + support + 0.5) as usize).min(input);
                let distance = |at: usize| (at as f64 - centre + 0.5) * (1.0 / filter_scale);
                let mut weights: Vec<f64> = (start..end).map(|at| filter.weight(distance(at))).collect();
                let sum: f64 = weights.iter().sum();
                if sum != 0.0 {
                    weights.iter_mut().for_each(|weight| *weight /= sum);
                }
                (start, weights)
            })
            .collect();
        let count = exact.iter().map(|(_, weights)| weights.len()).max().unwrap_or_default();
        let mut starts = Vec::with_capacity(output);
        let mut fixed = Vec::with_capacity(output * count);
        for (start, weights) in exact {
            // Every output pixel has `count` taps inside the image. Additional taps have weight 0.
            let shifted = start.min(input - count);
            starts.push(shifted);
            fixed.resize(fixed.len() + (start - shifted), 0);
            fixed.extend(weights.iter().map(|&weight| to_fixed(weight)));
            fixed.resize(starts.len() * count, 0);
        }
        Self { input, output, count, starts, weights: fixed }
    }

    /// Returns one tap for each output pixel. Pillow adds the scale to a position each time.
    fn nearest(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let positions = std::iter::successors(Some(scale * 0.5), |position| Some(position + scale));
        let starts = positions.take(output).map(|position| (position as usize).min(input - 1)).collect();
        Self { input, output, count: 1, starts, weights: vec![to_fixed(1.0); output] }
    }

    /// Returns whether the axis has equal lengths, so that its pass is left out.
    pub(super) fn is_identity(&self) -> bool {
        self.input == self.output
    }
}

/// Rounds half away from zero.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << PRECISION);
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// Taps of the most recently used lengths.
#[derive(Debug)]
pub(super) struct TapsCache {
    entries: LruCache<(Filter, usize, usize), Arc<Taps>>,
}

/// Number of cached tables. A photograph's table has a few kilobytes, and the largest table (65,535
/// to 384 pixels) about 1 MB.
const CACHED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

impl Default for TapsCache {
    fn default() -> Self {
        Self { entries: LruCache::new(CACHED) }
    }
}

impl TapsCache {
    pub(super) fn get(&mut self, filter: Filter, input: usize, output: usize) -> Arc<Taps> {
        let taps = || Arc::new(Taps::new(filter, input, output));
        Arc::clone(self.entries.get_or_insert((filter, input, output), taps))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn taps_are_inside_the_image_and_weights_sum_to_one(
            number in 0i64..6, input in 1usize..2000, output in 1usize..500,
        ) {
            let filter = Filter::from_pillow(number).unwrap();
            let taps = Taps::new(filter, input, output);
            prop_assert_eq!((taps.starts.len(), taps.weights.len()), (output, output * taps.count));
            for (start, weights) in taps.starts.iter().zip(taps.weights.chunks_exact(taps.count)) {
                prop_assert!(start + taps.count <= input);
                // The rounding error of each weight is at most half a unit.
                let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
                prop_assert!((sum - (1 << PRECISION)).abs() <= taps.count as i64);
                // Every sum of weighted samples fits 32 bits.
                let most: i64 = weights.iter().map(|&weight| i64::from(weight).abs() * 255).sum();
                prop_assert!(most + (1 << (PRECISION - 1)) <= i64::from(i32::MAX));
            }
        }
    }

    #[test]
    fn cache_returns_the_same_table() {
        let mut cache = TapsCache::default();
        let first = cache.get(Filter::Bicubic, 640, 384);
        assert!(Arc::ptr_eq(&first, &cache.get(Filter::Bicubic, 640, 384)));
        for input in 1..=CACHED.get() {
            cache.get(Filter::Bilinear, input, 8);
        }
        assert!(!Arc::ptr_eq(&first, &cache.get(Filter::Bicubic, 640, 384)));
    }
}
