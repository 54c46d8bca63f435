//! What is read off an outcome.

use std::time::Duration;

use crate::simulation::Outcome;
use crate::trace::Arrival;

/// One line of the table. Rates are a second, over the time in which jobs arrive, the first tenth left out.
/// Percentiles are of all questions asked, not of those answered: one that was refused, dropped or
/// answered after its deadline (when its asker has left) took for ever. None stands for that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// Questions answered, also after their deadline.
    pub(crate) throughput: f64,
    /// Questions answered in time; one without deadline is always in time.
    pub(crate) goodput: f64,
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    /// p99 of clients other than the bulk client.
    pub(crate) interactive_p99: Option<Duration>,
    /// Part of the questions of clients other than the bulk client that were answered in time.
    pub(crate) interactive_in_time: f64,
}

impl Columns {
    pub(crate) fn of(trace: &[Arrival], outcome: &Outcome) -> Self {
        let end = trace.last().map(|arrival| arrival.at).unwrap_or_default();
        let begin = end / 10;
        let window = (end - begin).as_secs_f64();
        let mut all = Vec::new();
        let mut interactive = Vec::new();
        let (mut answered, mut good, mut asked_interactive, mut good_interactive) = (0u64, 0u64, 0u64, 0u64);
        for (arrival, when) in trace.iter().zip(&outcome.answered) {
            let in_time = when.is_some_and(|when| arrival.deadline.is_none_or(|deadline| when <= deadline));
            if let Some(when) = *when
                && when >= begin
                && when <= end
            {
                answered += 1;
                good += u64::from(in_time);
            }
            if arrival.at < begin {
                continue;
            }
            if arrival.interactive {
                asked_interactive += 1;
                good_interactive += u64::from(in_time);
            }
            let time = when.filter(|_| in_time).map_or(Duration::MAX, |when| when - arrival.at);
            all.push(time);
            if arrival.interactive {
                interactive.push(time);
            }
        }
        Self {
            throughput: answered as f64 / window,
            goodput: good as f64 / window,
            p50: percentile(&mut all, 0.50),
            p99: percentile(&mut all, 0.99),
            interactive_p99: percentile(&mut interactive, 0.99),
            interactive_in_time: good_interactive as f64 / (asked_interactive as f64).max(1.0),
        }
    }
}

/// Nearest rank.
fn percentile(times: &mut [Duration], part: f64) -> Option<Duration> {
    times.sort_unstable();
    let rank = (times.len() as f64 * part).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().filter(|time| *time < Duration::MAX)
}
