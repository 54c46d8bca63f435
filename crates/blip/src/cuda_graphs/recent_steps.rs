//! How many decoding steps run before the host reads the first tokens.
//!
//! A wait for the device costs a few percent of a step. So a step may run early only if nearly
//! every batch needs it.

use std::collections::VecDeque;

/// Batches that decide.
const BATCHES: usize = 32;
/// Steps at first. Nearly every answer has two tokens or more, because one is the stop token.
const FIRST: i64 = 2;
/// The most steps. A streamed first token arrives as many steps later.
const MOST: i64 = 4;

/// The numbers of steps that recent batches needed.
#[derive(Debug, Default)]
pub(crate) struct RecentSteps(VecDeque<i64>);

impl RecentSteps {
    /// Adds a batch that needed `steps` steps.
    pub(crate) fn record(&mut self, steps: i64) {
        self.0.truncate(BATCHES - 1);
        self.0.push_front(steps);
    }

    /// Returns the number of steps to run before the first wait: those that each recent batch
    /// needed, from 2 to 4.
    pub(crate) fn needed_by_all(&self) -> i64 {
        let fewest = self.0.iter().min().filter(|_| self.0.len() == BATCHES);
        fewest.map_or(FIRST, |fewest| (*fewest).clamp(FIRST, MOST))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_shorter_answer_ends_longer_starts_for_32_batches() {
        let mut recent = RecentSteps::default();
        let mut after = |steps| {
            recent.record(steps);
            recent.needed_by_all()
        };
        let starts: Vec<i64> = (0..32).map(|_| after(3)).collect();
        assert!(starts[..31].iter().all(|&start| start == 2) && starts[31] == 3, "{starts:?}");
        assert_eq!(after(1), 2, "never fewer than two");
        let starts: Vec<i64> = (0..32).map(|_| after(9)).collect();
        assert!(starts[..31].iter().all(|&start| start == 2) && starts[31] == 4, "{starts:?}");
    }

    proptest! {
        #[test]
        fn no_recent_batch_needed_less_than_a_longer_start(steps in prop::collection::vec(1i64..8, 0..200)) {
            let mut recent = RecentSteps::default();
            for (index, &of_batch) in steps.iter().enumerate() {
                recent.record(of_batch);
                let start = recent.needed_by_all();
                let last = &steps[(index + 1).saturating_sub(BATCHES)..=index];
                prop_assert!((FIRST..=MOST).contains(&start));
                prop_assert!(start == FIRST || last.iter().all(|&steps| steps >= start));
            }
        }
    }
}
