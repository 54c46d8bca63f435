//! The results of one policy on one trace.

use std::time::Duration;

use crate::{
    simulation::Answers,
    traffic::{Arrival, Traffic},
};

/// A row of the report: one policy on one trace and device.
pub(crate) struct ResultRow {
    pub(crate) device: String,
    pub(crate) traffic: Traffic,
    /// In fractions of the capacity.
    pub(crate) load: f64,
    pub(crate) policy: &'static str,
    /// Questions per second of full batches.
    pub(crate) capacity: f64,
    /// Goodput that no policy can exceed on this trace.
    pub(crate) ideal_goodput: f64,
    pub(crate) results: Results,
}

/// Rates per second and percentiles of response times.
///
/// The rates are taken over the time in which jobs arrive, without its first tenth. The percentiles
/// are over all questions. A question without an answer before its deadline has infinite response
/// time, which is represented by None.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Results {
    /// Answers, including late ones.
    pub(crate) throughput: f64,
    /// Answers before the deadline. Without a deadline, an answer is always in time.
    pub(crate) goodput: f64,
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    /// The 99th percentile of the interactive clients.
    pub(crate) interactive_p99: Option<Duration>,
    /// Fraction of the interactive clients' questions that were answered in time.
    pub(crate) interactive_in_time: f64,
}

impl Results {
    pub(crate) fn new(trace: &[Arrival], answers: &Answers) -> Self {
        let end = trace.last().map(|arrival| arrival.at).unwrap_or_default();
        let begin = end / 10;
        let window = (end - begin).as_secs_f64();
        let mut times = Vec::new();
        let mut interactive_times = Vec::new();
        let (mut answered, mut in_time) = (0u64, 0u64);
        let (mut interactive, mut interactive_in_time) = (0u64, 0u64);
        for (arrival, when) in trace.iter().zip(&answers.times) {
            let is_in_time =
                when.is_some_and(|when| arrival.deadline.is_none_or(|deadline| when <= deadline));
            if let Some(when) = *when
                && when >= begin
                && when <= end
            {
                answered += 1;
                in_time += u64::from(is_in_time);
            }
            if arrival.at < begin {
                continue;
            }
            let time = when.filter(|_| is_in_time).map_or(Duration::MAX, |when| when - arrival.at);
            times.push(time);
            if arrival.is_interactive {
                interactive += 1;
                interactive_in_time += u64::from(is_in_time);
                interactive_times.push(time);
            }
        }
        Self {
            throughput: answered as f64 / window,
            goodput: in_time as f64 / window,
            p50: percentile(&mut times, 0.50),
            p99: percentile(&mut times, 0.99),
            interactive_p99: percentile(&mut interactive_times, 0.99),
            interactive_in_time: interactive_in_time as f64 / (interactive as f64).max(1.0),
        }
    }
}

/// Returns a percentile by nearest rank.
fn percentile(times: &mut [Duration], fraction: f64) -> Option<Duration> {
    times.sort_unstable();
    let rank = (times.len() as f64 * fraction).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().filter(|time| *time < Duration::MAX)
}
