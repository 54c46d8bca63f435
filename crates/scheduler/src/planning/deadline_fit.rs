//! Shrinks a batch so that its earliest deadlines are met, where possible.

use tokio::time::Instant;

use super::batch_builder::BatchBuilder;
use crate::ids::JobIndex;

/// Minimum efficiency of a smaller batch, relative to the whole one, while more work waits. Without
/// it, an overloaded engine would run ever smaller batches and all jobs would be late.
const MIN_EFFICIENCY_RATIO: f64 = 0.9;

/// The decision about a batch.
#[derive(Debug)]
pub(crate) enum DeadlineFit<'a> {
    /// Run this batch.
    Run(BatchBuilder<'a>),
    /// Build a batch without these jobs: they would be late, and a smaller batch is not worthwhile.
    Without(Vec<JobIndex>),
}

/// Decides which rows of a batch run, given their deadlines.
///
/// - If no row is late, the whole batch runs.
/// - Else the most urgent rows run, with as many others as keep them on time.
/// - If that batch is too inefficient, the late rows are to be replaced by other jobs.
///
/// With `must_include_head` the first row runs in every case.
pub(crate) fn fit_to_deadlines<'a>(
    whole: BatchBuilder<'a>,
    empty: &BatchBuilder<'a>,
    now: Instant,
    must_include_head: bool,
    has_more_jobs: bool,
) -> DeadlineFit<'a> {
    let end = now + whole.time();
    if whole.earliest_deadline().is_none_or(|deadline| end <= deadline) {
        return DeadlineFit::Run(whole);
    }
    let is_late = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline < end);
    let mut by_urgency: Vec<_> = whole.rows.iter().enumerate().collect();
    by_urgency.sort_by_key(|(index, row)| {
        let is_required = must_include_head && *index == 0;
        (!is_required, !is_late(row.deadline), row.deadline.filter(|_| is_late(row.deadline)), *index)
    });
    let mut urgent = empty.clone();
    for (index, row) in by_urgency {
        let is_required = must_include_head && index == 0;
        if is_required || (urgent.has_room(row) && urgent.meets_deadlines_with(row, now)) {
            urgent.push(*row);
        }
    }
    let is_worthwhile = !has_more_jobs || urgent.efficiency() >= MIN_EFFICIENCY_RATIO * whole.efficiency();
    if is_worthwhile && !urgent.rows.is_empty() {
        return DeadlineFit::Run(urgent);
    }
    let required = usize::from(must_include_head);
    let late: Vec<_> =
        whole.rows.iter().skip(required).filter(|row| is_late(row.deadline)).map(|row| row.job).collect();
    // If only late rows are left, run those that can be on time.
    if late.len() == whole.rows.len() && !urgent.rows.is_empty() {
        return DeadlineFit::Run(urgent);
    }
    if late.is_empty() { DeadlineFit::Run(whole) } else { DeadlineFit::Without(late) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cost::{CostCoefficients, CostModel},
        ids::ImageSlot,
        limits::BatchLimits,
        planning::batch_builder::RowCandidate,
    };

    /// 10 ms for a batch, 10 ms for each question.
    fn model() -> CostModel {
        CostModel::new(Some(CostCoefficients { batch: 0.010, image: 0.0, question: 0.010, step: 0.0 }))
    }

    fn rows_after_fit(
        deadlines_ms: &[Option<u64>],
        must_include_head: bool,
        has_more_jobs: bool,
    ) -> Vec<u32> {
        let model = model();
        let now = Instant::now();
        let empty = BatchBuilder::new(&model, BatchLimits::default(), u64::MAX);
        let mut whole = empty.clone();
        for (n, deadline) in deadlines_ms.iter().enumerate() {
            whole.push(RowCandidate {
                job: JobIndex(n as u32),
                image: ImageSlot(0),
                is_cached: true,
                tokens: 1,
                decode_steps: 0,
                deadline: deadline.map(|ms| now + Duration::from_millis(ms)),
            });
        }
        let all = whole.rows.clone();
        let mut rows: Vec<_> = match fit_to_deadlines(whole, &empty, now, must_include_head, has_more_jobs) {
            DeadlineFit::Run(builder) => builder.rows.iter().map(|row| row.job.0).collect(),
            DeadlineFit::Without(late) => {
                all.iter().map(|row| row.job).filter(|row| !late.contains(row)).map(|row| row.0).collect()
            }
        };
        rows.sort_unstable();
        rows
    }

    #[test]
    fn batch_on_time_runs_whole() {
        assert_eq!(rows_after_fit(&[None, Some(50), Some(1000)], false, true), [0, 1, 2]);
    }

    #[test]
    fn rows_that_delay_urgent_row_wait_for_next_batch() {
        // Three questions take 40 ms. The last row has 30 ms left.
        assert_eq!(rows_after_fit(&[None, None, Some(30)], false, false), [0, 2]);
    }

    #[test]
    fn required_head_runs_despite_urgent_rows() {
        assert_eq!(rows_after_fit(&[None, Some(20)], false, false), [1]);
        assert_eq!(rows_after_fit(&[None, Some(20)], true, true), [0]);
    }

    #[test]
    fn overloaded_engine_keeps_batch_size_despite_urgent_row() {
        let mut deadlines = vec![None; 20];
        deadlines.push(Some(20));
        // Alone, the last row would be on time, at half the efficiency and with 20 jobs waiting.
        assert_eq!(rows_after_fit(&deadlines, false, true), (0..20).collect::<Vec<_>>());
        assert_eq!(rows_after_fit(&deadlines, false, false), [20]);
    }
}
