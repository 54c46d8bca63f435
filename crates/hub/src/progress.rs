//! How far a download is: a bar on a terminal, lines in the log elsewhere.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str =
    "{msg} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";

/// How often the bar's rate is drawn anew while nothing comes.
const TICK: Duration = Duration::from_millis(500);

/// A line is logged whenever this many percent have come.
const STEP_PERCENT: u64 = 10;

/// Counts the bytes of one model.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    total: AtomicU64,
    done: AtomicU64,
    logged_percent: AtomicU64,
}

impl Progress {
    /// A bar where standard error is a terminal, lines in the log where it is not.
    #[must_use]
    pub fn on_stderr() -> Self {
        // Not shown before there is something to come.
        let bar = std::io::stderr().is_terminal().then(ProgressBar::hidden);
        let mut progress = Self::logged();
        progress.bar = bar;
        progress
    }

    /// Lines in the log.
    #[must_use]
    pub fn logged() -> Self {
        Self {
            bar: None,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            logged_percent: AtomicU64::new(0),
        }
    }

    /// Begins with `total` bytes of `model` to come.
    pub(crate) fn start(&self, model: &str, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => {
                let style = ProgressStyle::with_template(TEMPLATE);
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_message(model.to_owned());
                bar.set_length(total);
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(TICK);
            }
            None => tracing::info!(model, size = %BinaryBytes(total), "downloading"),
        }
    }

    /// `bytes` have come.
    pub(crate) fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match &self.bar {
            Some(bar) => bar.inc(bytes),
            None => self.log(done),
        }
    }

    /// `bytes` need not come: they are there.
    pub(crate) fn skip(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            // Nothing was that fast, so the rate does not count them.
            bar.set_position(bar.position() + bytes);
            bar.reset_eta();
        }
    }

    /// `bytes` have to come again.
    pub(crate) fn rewind(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.dec(bytes);
        }
    }

    fn log(&self, done: u64) {
        let total = self.total.load(Ordering::Relaxed);
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        let step = percent - percent % STEP_PERCENT;
        if step > self.logged_percent.fetch_max(step, Ordering::Relaxed) {
            tracing::info!(percent = step, done = %BinaryBytes(done), total = %BinaryBytes(total), "downloading");
        }
    }
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
    fn bytes_that_come_again_are_not_counted_twice() {
        let progress = Progress::logged();
        progress.start("org/name", 100);
        progress.skip(30);
        progress.advance(20);
        progress.rewind(50);
        progress.advance(100);
        assert_eq!(progress.done.load(Ordering::Relaxed), 100);
        assert_eq!(progress.logged_percent.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn the_bar_is_well_formed() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
