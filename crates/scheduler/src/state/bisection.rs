//! Parts of failed batches, which run again until the failing row is alone.

use std::collections::VecDeque;

use crate::ids::JobIndex;

/// Rows that run again, each part in a separate batch.
#[derive(Debug, Default)]
pub(crate) struct Bisection {
    parts: VecDeque<Vec<JobIndex>>,
}

impl Bisection {
    /// Splits the unfinished rows of a failed batch in two. A part has at most half of the batch,
    /// so one failing row among `n` costs at most `2 * log2(n)` further batches.
    pub(crate) fn split(&mut self, mut rows: Vec<JobIndex>) {
        let second = rows.split_off(rows.len().div_ceil(2));
        self.parts.extend([rows, second].into_iter().filter(|part| !part.is_empty()));
    }

    /// Returns the next part, at most `max_rows` rows of it.
    pub(crate) fn next(&mut self, max_rows: usize) -> Option<Vec<JobIndex>> {
        let mut part = self.parts.pop_front()?;
        if part.len() > max_rows.max(1) {
            let rest = part.split_off(max_rows.max(1));
            self.parts.push_front(rest);
        }
        Some(part)
    }

    /// Removes a job that no client waits for.
    pub(crate) fn remove(&mut self, job: JobIndex) {
        for part in &mut self.parts {
            part.retain(|other| *other != job);
        }
        self.parts.retain(|part| !part.is_empty());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the number of rows in all parts.
    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_row_among_64_is_isolated_in_12_batches() {
        let failing = JobIndex(37);
        let mut bisection = Bisection::default();
        bisection.split((0..64).map(JobIndex).collect());
        let (mut batches, mut others) = (0, 0);
        while let Some(part) = bisection.next(64) {
            batches += 1;
            match part.as_slice() {
                [row] if *row == failing => {}
                _ if part.contains(&failing) => bisection.split(part),
                _ => others += part.len(),
            }
        }
        assert_eq!((batches, others), (12, 63));
    }

    #[test]
    fn part_above_limit_is_split() {
        let mut bisection = Bisection::default();
        bisection.split((0..10).map(JobIndex).collect());
        let mut pieces = Vec::new();
        while let Some(part) = bisection.next(2) {
            pieces.push(part.len());
        }
        assert_eq!(pieces, [2, 2, 1, 2, 2, 1]);
    }

    #[test]
    fn cancelled_job_is_removed_from_parts() {
        let mut bisection = Bisection::default();
        bisection.split(vec![JobIndex(1), JobIndex(2)]);
        bisection.remove(JobIndex(1));
        assert_eq!((bisection.next(8), bisection.next(8)), (Some(vec![JobIndex(2)]), None));
    }
}
