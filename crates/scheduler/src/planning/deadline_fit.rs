//! Cuts a batch so that its earliest deadlines are met, where that can be.

use tokio::time::Instant;

use super::batch_builder::BatchBuilder;
use crate::ids::JobIndex;

/// A cut batch must keep this part of the whole one's efficiency while more than one batch waits;
/// otherwise an overloaded engine would serve ever smaller batches, and everybody would be late.
const MIN_EFFICIENCY_RATIO: f64 = 0.9;

/// What is to be run.
#[derive(Debug)]
pub(crate) enum DeadlineFit<'a> {
    /// This batch.
    Run(BatchBuilder<'a>),
    /// A batch without these: they would be late in it, and not worth the smaller batch they need.
    Without(Vec<JobIndex>),
}

/// Decides over a batch: it is run whole when nobody in it is late, else the most urgent rows with as
/// many of the others as leave them on time, else others are to be found for those that are late.
///
/// With `must_include_head` the first row stays in whatever the others' deadlines say.
pub(crate) fn fit_to_deadlines<'a>(
    whole: BatchBuilder<'a>,
    empty: &BatchBuilder<'a>,
    now: Instant,
    must_include_head: bool,
    more_waits: bool,
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
    let worth_it = !more_waits || urgent.efficiency() >= MIN_EFFICIENCY_RATIO * whole.efficiency();
    if worth_it && !urgent.rows.is_empty() {
        return DeadlineFit::Run(urgent);
    }
    let is_required = usize::from(must_include_head);
    let late: Vec<_> =
        whole.rows.iter().skip(is_required).filter(|row| is_late(row.deadline)).map(|row| row.job).collect();
    // When nobody else is left, those that can be on time are better than none.
    if late.len() == whole.rows.len() && !urgent.rows.is_empty() {
        return DeadlineFit::Run(urgent);
    }
    if late.is_empty() { DeadlineFit::Run(whole) } else { DeadlineFit::Without(late) }
}

#[cfg(test)]
mod tests {
    use super::super::batch_builder::RowCandidate;
    use super::*;
    use crate::{
        cost::{CostCoefficients, CostModel},
        ids::ImageSlot,
        limits::BatchLimits,
    };
    use std::time::Duration;

    /// 10 ms for a batch, 10 ms for each question.
    fn model() -> CostModel {
        CostModel::new(Some(CostCoefficients { batch: 0.010, image: 0.0, question: 0.010, step: 0.0 }))
    }

    fn rows_after_fit(deadlines_ms: &[Option<u64>], must_include_head: bool, more_waits: bool) -> Vec<u32> {
        let model = model();
        let now = Instant::now();
        let empty = BatchBuilder::new(&model, BatchLimits::default());
        let mut whole = empty.clone();
        for (n, deadline) in deadlines_ms.iter().enumerate() {
            whole.push(RowCandidate {
                job: JobIndex(n as u32),
                image: ImageSlot(0),
                cached: true,
                tokens: 1,
                deadline: deadline.map(|ms| now + Duration::from_millis(ms)),
            });
        }
        let all = whole.rows.clone();
        let mut rows: Vec<_> = match fit_to_deadlines(whole, &empty, now, must_include_head, more_waits) {
            DeadlineFit::Run(builder) => builder.rows.iter().map(|row| row.job.0).collect(),
            DeadlineFit::Without(late) => {
                all.iter().map(|row| row.job).filter(|row| !late.contains(row)).map(|row| row.0).collect()
            }
        };
        rows.sort_unstable();
        rows
    }

    #[test]
    fn a_batch_that_is_on_time_is_left_whole() {
        assert_eq!(rows_after_fit(&[None, Some(50), Some(1000)], false, true), [0, 1, 2]);
    }

    #[test]
    fn rows_that_would_make_an_urgent_one_late_are_left_for_the_next_batch() {
        // Three questions take 40 ms; the last must be done in 30.
        assert_eq!(rows_after_fit(&[None, None, Some(30)], false, false), [0, 2]);
    }

    #[test]
    fn the_head_that_is_owed_a_turn_stays_whatever_the_urgency_of_others() {
        assert_eq!(rows_after_fit(&[None, Some(20)], false, false), [1]);
        assert_eq!(rows_after_fit(&[None, Some(20)], true, true), [0]);
    }

    #[test]
    fn an_overloaded_engine_does_not_shrink_its_batches_for_one_urgent_row() {
        let mut deadlines = vec![None; 20];
        deadlines.push(Some(20));
        // Alone it would be on time, at half the efficiency and with twenty others waiting.
        assert_eq!(rows_after_fit(&deadlines, false, true), (0..20).collect::<Vec<_>>());
        assert_eq!(rows_after_fit(&deadlines, false, false), [20]);
    }
}
