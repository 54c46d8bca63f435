//! One device, one policy, one trace: what happens when.

use std::time::Duration;

use crate::device::{Device, Run};
use crate::trace::Arrival;

/// What a policy wants the free device to do.
pub(crate) enum Next {
    Batch(Vec<usize>),
    WaitUntil(Duration),
    Nothing,
}

/// What is compared. Jobs are indices into the trace.
pub(crate) trait Policy {
    /// False when the job is refused.
    fn arrive(&mut self, now: Duration, job: usize) -> bool;
    fn next(&mut self, now: Duration) -> Next;
    /// The jobs that a finished row answers.
    fn row_finished(&mut self, now: Duration, row: usize, job: usize) -> Vec<usize>;
    fn batch_finished(&mut self, now: Duration, run: &Run);
    /// When the policy wants to be called although nothing has happened.
    fn timer(&self) -> Option<Duration>;
    fn tick(&mut self, now: Duration);
}

/// What came of a trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// When each job was answered, by its index.
    pub(crate) answered: Vec<Option<Duration>>,
    /// When the last batch ended.
    pub(crate) end: Duration,
}

struct Busy {
    started: Duration,
    jobs: Vec<usize>,
    run: Run,
    /// RowSink by the time they are finished, the last one first.
    due: Vec<(Duration, usize)>,
}

/// Plays the trace.
pub(crate) fn play(policy: &mut dyn Policy, device: &mut Device, trace: &[Arrival]) -> Outcome {
    let mut outcome = Outcome { answered: vec![None; trace.len()], end: Duration::ZERO };
    let mut arrivals = trace.iter().enumerate().peekable();
    let mut busy: Option<Busy> = None;
    let mut wait: Option<Duration> = None;
    loop {
        let arrival = arrivals.peek().map(|(_, arrival)| arrival.at);
        let row = busy.as_ref().map(|busy| match busy.due.last() {
            Some((due, _)) => busy.started + *due,
            None => busy.started + busy.run.whole,
        });
        let Some(now) = [arrival, row, wait, policy.timer()].into_iter().flatten().min() else { break };
        if row == Some(now) {
            step(&mut busy, policy, now, &mut outcome);
        } else if arrival == Some(now) {
            if let Some((job, _)) = arrivals.next() {
                policy.arrive(now, job);
            }
        } else {
            policy.tick(now);
        }
        if busy.is_some() {
            continue;
        }
        // Everything that arrives at one moment is there before the device looks.
        if arrivals.peek().is_some_and(|(_, next)| next.at == now) {
            continue;
        }
        wait = None;
        match policy.next(now) {
            Next::Batch(jobs) => busy = Some(start(device, trace, jobs, now)),
            Next::WaitUntil(until) => wait = Some(until),
            Next::Nothing => {}
        }
    }
    outcome
}

fn start(device: &mut Device, trace: &[Arrival], jobs: Vec<usize>, now: Duration) -> Busy {
    let rows: Vec<&Arrival> = jobs.iter().filter_map(|job| trace.get(*job)).collect();
    let run = device.run(&rows);
    let mut due: Vec<_> = run.rows.iter().copied().enumerate().map(|(row, due)| (due, row)).collect();
    due.sort_by(|a, b| b.cmp(a));
    Busy { started: now, jobs, run, due }
}

/// Finishes the next row, or the batch after its last row.
fn step(busy: &mut Option<Busy>, policy: &mut dyn Policy, now: Duration, outcome: &mut Outcome) {
    let Some(batch) = busy else { return };
    if let Some((_, row)) = batch.due.pop() {
        let job = batch.jobs.get(row).copied().unwrap_or_default();
        for answered in policy.row_finished(now, row, job) {
            if let Some(slot) = outcome.answered.get_mut(answered) {
                *slot = Some(now);
            }
        }
    }
    if batch.due.is_empty() && batch.started + batch.run.whole <= now {
        policy.batch_finished(now, &batch.run);
        outcome.end = now;
        *busy = None;
    }
}
