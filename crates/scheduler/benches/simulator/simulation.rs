//! The event loop: one device, one policy, one trace.

use std::time::Duration;

use crate::{
    device::{BatchRun, Device},
    traffic::Arrival,
};

/// A policy's decision for the free device.
pub(crate) enum Next {
    Batch(Vec<usize>),
    WaitUntil(Duration),
    Nothing,
}

/// A batching policy. Jobs are indices into the trace.
pub(crate) trait Policy {
    /// Returns false if the policy rejects the job.
    fn arrive(&mut self, now: Duration, job: usize) -> bool;
    fn next(&mut self, now: Duration) -> Next;
    /// Returns the jobs that a finished row answers.
    fn row_finished(&mut self, now: Duration, row: usize, job: usize) -> Vec<usize>;
    fn batch_finished(&mut self, now: Duration, run: &BatchRun);
    /// Returns when `tick` must be called if no event occurs before.
    fn timer(&self) -> Option<Duration>;
    fn tick(&mut self, now: Duration);
}

/// The answers of a simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// Time of each job's answer, by index.
    pub(crate) times: Vec<Option<Duration>>,
    /// End of the last batch.
    pub(crate) end: Duration,
}

struct RunningBatch {
    start: Duration,
    jobs: Vec<usize>,
    run: BatchRun,
    /// Rows that are not finished with their times, the last one first.
    open: Vec<(Duration, usize)>,
}

/// Runs a trace until no event is left.
pub(crate) fn simulate(policy: &mut dyn Policy, device: &mut Device, trace: &[Arrival]) -> Answers {
    let mut answers = Answers { times: vec![None; trace.len()], end: Duration::ZERO };
    let mut arrivals = trace.iter().enumerate().peekable();
    let mut running: Option<RunningBatch> = None;
    let mut wait: Option<Duration> = None;
    loop {
        let arrival = arrivals.peek().map(|(_, arrival)| arrival.at);
        let row = running.as_ref().map(|batch| match batch.open.last() {
            Some((time, _)) => batch.start + *time,
            None => batch.start + batch.run.end,
        });
        let Some(now) = [arrival, row, wait, policy.timer()].into_iter().flatten().min() else { break };
        if row == Some(now) {
            step(&mut running, policy, now, &mut answers);
        } else if arrival == Some(now) {
            if let Some((job, _)) = arrivals.next() {
                policy.arrive(now, job);
            }
        } else {
            policy.tick(now);
        }
        if running.is_some() {
            continue;
        }
        // All arrivals of one time precede the decision.
        if arrivals.peek().is_some_and(|(_, next)| next.at == now) {
            continue;
        }
        wait = None;
        match policy.next(now) {
            Next::Batch(jobs) => running = Some(start(device, trace, jobs, now)),
            Next::WaitUntil(until) => wait = Some(until),
            Next::Nothing => {}
        }
    }
    answers
}

fn start(device: &mut Device, trace: &[Arrival], jobs: Vec<usize>, now: Duration) -> RunningBatch {
    let rows: Vec<&Arrival> = jobs.iter().filter_map(|job| trace.get(*job)).collect();
    let run = device.run(&rows);
    let mut open: Vec<_> = run.rows.iter().copied().enumerate().map(|(row, time)| (time, row)).collect();
    open.sort_by(|a, b| b.cmp(a));
    RunningBatch { start: now, jobs, run, open }
}

/// Finishes the next row, and the batch after its last row.
fn step(running: &mut Option<RunningBatch>, policy: &mut dyn Policy, now: Duration, answers: &mut Answers) {
    let Some(batch) = running else { return };
    if let Some((_, row)) = batch.open.pop() {
        let job = batch.jobs.get(row).copied().unwrap_or_default();
        for answered in policy.row_finished(now, row, job) {
            if let Some(time) = answers.times.get_mut(answered) {
                *time = Some(now);
            }
        }
    }
    if batch.open.is_empty() && batch.start + batch.run.end <= now {
        policy.batch_finished(now, &batch.run);
        answers.end = now;
        *running = None;
    }
}
