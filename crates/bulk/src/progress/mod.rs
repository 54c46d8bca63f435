//! Progress of a run: a bar on a terminal, log lines elsewhere.

mod wait_times;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle};

pub(crate) use self::wait_times::WaitTimes;

const BAR: &str = "{msg} {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left{prefix}{bound}";
const COUNTER: &str = "{msg} {spinner} {human_pos}, {per_sec}{prefix}{bound}";

/// Interval in which the bar is redrawn while no record ends.
const REDRAW_INTERVAL: Duration = Duration::from_millis(500);

/// Minimum time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Counts the records of a run: a [`ProgressBar`] that writes log lines while it is hidden.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Records of previous runs.
    resumed: u64,
    failed: AtomicU64,
    logged_intervals: AtomicU64,
    waits: Arc<WaitTimes>,
}

impl Progress {
    /// Shows a bar if standard error is a terminal, and writes log lines otherwise.
    ///
    /// `activity` is shown beside the bar. Previous runs have processed `resumed` of `total`
    /// records.
    #[must_use]
    pub fn on_stderr(activity: &'static str, resumed: u64, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(if total.is_some() { BAR } else { COUNTER });
        let waits = Arc::new(WaitTimes::default());
        let bound = Arc::clone(&waits);
        let bound = move |_: &ProgressState, text: &mut dyn fmt::Write| {
            if let Some((stage, percent)) = bound.shares().first() {
                let _ = write!(text, ", bound by {stage} {percent:.0} %");
            }
        };
        let bar = bar
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("bound", bound))
            .with_message(activity)
            .with_position(resumed)
            .with_finish(ProgressFinish::AndClear);
        // Excludes the resumed records from the rate.
        bar.reset_eta();
        if !bar.is_hidden() {
            bar.enable_steady_tick(REDRAW_INTERVAL);
        }
        Self { bar, resumed, waits, ..Self::in_log() }
    }

    /// Writes log lines.
    #[must_use]
    pub fn in_log() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            resumed: 0,
            failed: AtomicU64::new(0),
            logged_intervals: AtomicU64::new(0),
            waits: Arc::default(),
        }
    }

    /// Returns what measures the waits of the run.
    pub(crate) fn waits(&self) -> &WaitTimes {
        &self.waits
    }

    /// Returns the stages that the run waited for and the share of each in its time, such as
    /// `engine 93 %, reading 5 %, writing 2 %`. `None` before the run.
    #[must_use]
    pub fn bound_by(&self) -> Option<String> {
        let shares = self.waits.shares();
        let shares: Vec<String> =
            shares.iter().map(|(stage, percent)| format!("{stage} {percent:.0} %")).collect();
        (!shares.is_empty()).then(|| shares.join(", "))
    }

    /// Counts a record that was written, as a failure if `failed`.
    pub fn advance(&self, failed: bool) {
        self.bar.inc(1);
        let failed = self.failed.fetch_add(u64::from(failed), Ordering::Relaxed) + u64::from(failed);
        if !self.bar.is_hidden() {
            if failed > 0 {
                self.bar.set_prefix(format!(", {failed} failed"));
            }
        } else if self.is_log_due(self.bar.elapsed()) {
            let total = self.bar.length().unwrap_or_default();
            let (done, per_second) = (self.bar.position(), self.per_second());
            let (seconds_left, bound_by) = (seconds_left(total, done, per_second), self.bound_by());
            tracing::info!(done, total, failed, per_second, seconds_left, bound_by, "records processed");
        }
    }

    /// Returns whether a log interval has ended, and records that its line was written.
    fn is_log_due(&self, elapsed: Duration) -> bool {
        let intervals = elapsed.as_secs() / LOG_INTERVAL.as_secs();
        intervals > self.logged_intervals.fetch_max(intervals, Ordering::Relaxed)
    }

    /// Returns the number of records of this run per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        rate(self.bar.position() - self.resumed, self.bar.elapsed())
    }
}

/// Estimates the number of records of a run from the share of its input that was read.
#[derive(Debug)]
pub(crate) struct Estimate {
    bar: ProgressBar,
    /// The bytes of the input up to the end of each file, once they are known.
    ends: OnceLock<Vec<u64>>,
}

impl Estimate {
    /// Creates an estimate, which `progress` shows.
    pub(crate) fn new(progress: &Progress) -> Self {
        Self { bar: progress.bar.clone(), ends: OnceLock::new() }
    }

    /// Sets the lengths of the files of the input, once.
    pub(crate) fn set_lengths(&self, lengths: &[u64]) {
        let ends = lengths.iter().scan(0_u64, |end, length| {
            *end = end.saturating_add(*length);
            Some(*end)
        });
        let _ = self.ends.set(ends.collect());
    }

    /// Updates the estimate: `records` were read so far, and `bytes` of the file at this position.
    pub(crate) fn update(&self, file: usize, bytes: u64, records: u64) {
        let ends = self.ends.get().map(Vec::as_slice).unwrap_or_default();
        let before = file.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or_default();
        let total = ends.last().copied().unwrap_or_default();
        self.bar.set_length(estimated_total(total, before.saturating_add(bytes), records));
    }

    /// Updates the estimate at the end of a file.
    pub(crate) fn end_of_file(&self, file: usize, records: u64) {
        self.update(file + 1, 0, records);
    }
}

/// Returns the number of records in `total_bytes`, if `bytes` of them have `records`.
fn estimated_total(total_bytes: u64, bytes: u64, records: u64) -> u64 {
    if bytes == 0 || bytes >= total_bytes {
        return records;
    }
    let total = u128::from(records) * u128::from(total_bytes) / u128::from(bytes);
    u64::try_from(total).unwrap_or(u64::MAX)
}

/// Returns the time for the rest of `total` records, if that number and the rate are known.
fn seconds_left(total: u64, done: u64, per_second: f64) -> Option<u64> {
    let open = total.checked_sub(done)?;
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    let seconds = open as f64 / per_second;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and finite")]
    seconds.is_finite().then_some(seconds.ceil() as u64)
}

fn rate(done: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    let done = done as f64;
    if seconds > 0.0 { (done / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_templates_are_valid() {
        ProgressStyle::with_template(BAR).unwrap();
        ProgressStyle::with_template(COUNTER).unwrap();
    }

    #[test]
    fn log_line_is_due_once_per_interval() {
        let progress = Progress::in_log();
        let due = (1..=40).filter(|second| progress.is_log_due(Duration::from_secs(*second))).count();
        assert_eq!(due, 4);
    }

    #[test]
    fn total_is_estimated_by_the_share_of_bytes() {
        assert_eq!(estimated_total(1000, 100, 7), 70);
        assert_eq!(estimated_total(1000, 0, 0), 0);
        // Sizes of missing files are 0, and files can grow.
        assert_eq!(estimated_total(1000, 1100, 80), 80);
    }

    #[test]
    fn estimate_counts_files_before_the_current_one() {
        let progress = Progress::in_log();
        let estimate = Estimate::new(&progress);
        let total = || progress.bar.length().unwrap();
        estimate.update(0, 50, 5);
        assert_eq!(total(), 5, "the lengths are not known");
        estimate.set_lengths(&[100, 0, 300]);
        estimate.update(0, 50, 5);
        assert_eq!(total(), 40);
        estimate.end_of_file(0, 10);
        assert_eq!(total(), 40);
        estimate.update(2, 100, 40);
        assert_eq!(total(), 80);
        estimate.end_of_file(2, 130);
        assert_eq!(total(), 130);
    }

    #[test]
    fn time_left_needs_total_and_rate() {
        assert_eq!(seconds_left(100, 70, 2.5), Some(12));
        assert_eq!(seconds_left(100, 70, 0.0), None);
        // An unknown total is 0.
        assert_eq!(seconds_left(0, 70, 2.5), None);
    }

    #[test]
    fn rate_is_rounded_to_a_tenth() {
        assert!((rate(100, Duration::from_secs(3)) - 33.3).abs() < 1e-9);
        assert!(rate(1, Duration::ZERO).abs() < 1e-9);
    }
}
