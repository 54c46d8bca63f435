//! A histogram of probabilities.

use serde_json::{Value, json};

/// Number of bins. Each has the same width.
pub(super) const BINS: u8 = 20;

/// Counts probabilities in [`BINS`] bins. The last bin includes 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: [u64; BINS as usize],
}

impl Histogram {
    pub(super) fn add(&mut self, probability: f64) {
        let above = (1..BINS).take_while(|bin| probability >= bounds(*bin).0).count();
        if let Some(count) = self.counts.get_mut(above) {
            *count += 1;
        }
    }

    /// Returns the bounds and the count of each bin.
    pub(super) fn bins(&self) -> impl Iterator<Item = ((f64, f64), u64)> {
        (0..BINS).map(bounds).zip(self.counts)
    }

    pub(super) fn to_json(&self) -> Value {
        self.bins().map(|((from, to), count)| json!({"from": from, "to": to, "count": count})).collect()
    }
}

/// Returns the lower and the upper bound of a bin.
fn bounds(bin: u8) -> (f64, f64) {
    (f64::from(bin) / f64::from(BINS), f64::from(bin + 1) / f64::from(BINS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn probability_is_counted_in_the_bin_of_its_bounds(probability in 0.0_f64..=1.0) {
            let mut histogram = Histogram::default();
            histogram.add(probability);
            let filled: Vec<_> = histogram.bins().filter(|(_, count)| *count > 0).collect();
            prop_assert_eq!(filled.len(), 1);
            let ((from, to), count) = filled[0];
            prop_assert!(from <= probability && (probability < to || to >= 1.0));
            prop_assert_eq!(count, 1);
        }
    }

    #[test]
    fn bounds_are_counted_upwards() {
        let mut histogram = Histogram::default();
        [0.0, 0.05, 0.5, 1.0].into_iter().for_each(|probability| histogram.add(probability));
        let filled: Vec<usize> =
            histogram.bins().enumerate().filter(|(_, (_, count))| *count == 1).map(|(at, _)| at).collect();
        assert_eq!(filled, [0, 1, 10, 19]);
        assert_eq!(histogram.to_json()[1], json!({"from": 0.05, "to": 0.1, "count": 1}));
    }
}
