//! How many decoding steps run before the host reads the first tokens.
//!
//! A wait for the device costs a few percent of a step. So a step may run early only if nearly
//! every batch needs it.

/// Steps at first. Nearly every answer has two tokens or more, because one is the stop token.
const FIRST: i64 = 2;
/// Larger numbers of steps. A streamed first token arrives with the last of them.
const LONGER: [i64; 2] = [3, 4];

/// Counts the recent batches that needed more steps than the first two.
#[derive(Debug, Default)]
pub(crate) struct RecentSteps {
    /// Steps that the caller has requested for the current batch.
    requested: i64,
    /// For each of [`LONGER`], how many batches in a row needed as many steps.
    in_a_row: [usize; 2],
}

impl RecentSteps {
    /// Batches in a row after which all batches begin with more steps.
    pub(crate) const BATCHES: usize = 32;

    /// Records that the current batch needs the step `step`.
    pub(crate) fn request(&mut self, step: i64) {
        self.requested = step + 1;
    }

    /// Ends the current batch, whose answers had at most `limit` steps.
    ///
    /// A batch that its limit ended does not show that more steps would have been in vain.
    pub(crate) fn end_batch(&mut self, limit: i64) {
        let steps = std::mem::take(&mut self.requested);
        for (count, longer) in self.in_a_row.iter_mut().zip(LONGER) {
            if steps >= longer {
                *count = count.saturating_add(1);
            } else if (1..limit).contains(&steps) {
                *count = 0;
            }
        }
    }

    /// Returns the number of steps that the next batch runs before the first wait.
    pub(crate) fn first_steps(&self) -> i64 {
        let needed = LONGER.into_iter().zip(self.in_a_row).filter(|(_, count)| *count >= Self::BATCHES);
        needed.map(|(steps, _)| steps).max().unwrap_or(FIRST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the number of first steps after the `batches`, each with its steps and its limit.
    fn first_steps(batches: &[(i64, i64)]) -> i64 {
        let mut recent = RecentSteps::default();
        for &(steps, limit) in batches {
            (0..steps).for_each(|step| recent.request(step));
            recent.end_batch(limit);
        }
        recent.first_steps()
    }

    #[test]
    fn shorter_answer_ends_longer_starts_for_32_batches() {
        let mut batches = vec![(3, 9); 31];
        assert_eq!(first_steps(&batches), 2);
        batches.push((3, 9));
        assert_eq!(first_steps(&batches), 3);
        batches.push((2, 2));
        assert_eq!(first_steps(&batches), 3, "the limit ended the answer");
        batches.push((2, 9));
        assert_eq!(first_steps(&batches), 2);
        batches.extend([(9, 9); 32]);
        assert_eq!(first_steps(&batches), 4);
        batches.push((0, 9));
        assert_eq!(first_steps(&batches), 4, "the batch ran no step");
    }

    proptest! {
        #[test]
        fn longer_starts_need_32_batches_with_as_many_steps(
            runs in prop::collection::vec(((1i64..8, 0i64..3), 1usize..50), 0..8),
        ) {
            let batches: Vec<(i64, i64)> = runs
                .into_iter()
                .flat_map(|((steps, more), count)| std::iter::repeat_n((steps, steps + more), count))
                .collect();
            let is_needed = |longer: i64| {
                let counted = batches.iter().filter(|(steps, limit)| *steps >= longer || steps < limit);
                let last: Vec<_> = counted.rev().take(32).collect();
                last.len() == 32 && last.iter().all(|(steps, _)| *steps >= longer)
            };
            let expected = [4, 3].into_iter().find(|&longer| is_needed(longer)).unwrap_or(2);
            prop_assert_eq!(first_steps(&batches), expected);
        }
    }
}
