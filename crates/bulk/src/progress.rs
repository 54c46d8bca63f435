//! How far a run is: a bar with rate and time left on a terminal, lines in the log elsewhere.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

const BAR: &str = "{msg} {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left{prefix}";
const COUNTER: &str = "{msg} {spinner} {human_pos}, {per_sec}{prefix}";

/// How often the bar's rate is drawn anew while nothing comes.
const TICK: Duration = Duration::from_millis(500);

/// A line is logged this often at most.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts the records of one run.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    total: Option<u64>,
    begin: Instant,
    /// Of this run.
    done: AtomicU64,
    /// Of runs before.
    before: u64,
    failed: AtomicU64,
    logged_periods: AtomicU64,
}

impl Progress {
    /// A bar where standard error is a terminal, lines in the log where it is not. `before` of `total` records were done
    /// before this run.
    #[must_use]
    pub fn on_stderr(what: &'static str, before: u64, total: Option<u64>) -> Self {
        let mut progress = Self::logged();
        (progress.before, progress.total) = (before, total);
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(if total.is_some() { BAR } else { COUNTER });
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(what);
            bar.set_position(before);
            // What was there before took no time.
            bar.reset_eta();
            bar.enable_steady_tick(TICK);
            progress.bar = Some(bar);
        }
        progress
    }

    /// Lines in the log.
    #[must_use]
    pub fn logged() -> Self {
        Self {
            bar: None,
            total: None,
            begin: Instant::now(),
            done: AtomicU64::new(0),
            before: 0,
            failed: AtomicU64::new(0),
            logged_periods: AtomicU64::new(0),
        }
    }

    /// One more record is written; whether it `failed`.
    pub fn advance(&self, failed: bool) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let failed = self.failed.fetch_add(u64::from(failed), Ordering::Relaxed) + u64::from(failed);
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                if failed > 0 {
                    bar.set_prefix(format!(", {failed} failed"));
                }
            }
            None => self.log(done, failed),
        }
    }

    fn log(&self, done: u64, failed: u64) {
        let elapsed = self.begin.elapsed();
        let periods = elapsed.as_secs() / PERIOD.as_secs();
        if periods > self.logged_periods.fetch_max(periods, Ordering::Relaxed) {
            let (total, rate) = (self.total.unwrap_or_default(), rate(done, elapsed));
            tracing::info!(done = self.before + done, total, failed, per_second = rate, "working");
        }
    }

    /// Records of this run a second, since it began.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        rate(self.done.load(Ordering::Relaxed), self.begin.elapsed())
    }
}

fn rate(done: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    let done = done as f64;
    if seconds > 0.0 { (done / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_are_well_formed() {
        ProgressStyle::with_template(BAR).unwrap();
        ProgressStyle::with_template(COUNTER).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_of_this_run_and_lines_are_logged_once_a_period() {
        let progress = Progress::logged();
        for _ in 0..40 {
            tokio::time::advance(Duration::from_secs(1)).await;
            progress.advance(false);
        }
        assert!((progress.per_second() - 1.0).abs() < 1e-9);
        assert_eq!(progress.logged_periods.load(Ordering::Relaxed), 4);
    }
}
