//! Shows the progress of a download: a bar on a terminal, or log lines.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str =
    "{msg} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";

/// Interval between updates of the bar while no data arrives.
const TICK: Duration = Duration::from_millis(500);

/// Progress between two log lines, in percent.
const LOG_STEP_PERCENT: u64 = 10;

/// The progress of the download of one model, in bytes.
#[derive(Debug)]
pub struct Progress {
    /// Counts the bytes. Without a terminal, it is never drawn.
    bar: ProgressBar,
    has_terminal: bool,
    logged_percent: AtomicU64,
}

impl Progress {
    /// Creates a bar if standard error is a terminal, else log lines.
    #[must_use]
    pub fn on_stderr() -> Self {
        Self::new(std::io::stderr().is_terminal())
    }

    /// Creates log lines.
    #[must_use]
    pub fn logged() -> Self {
        Self::new(false)
    }

    fn new(has_terminal: bool) -> Self {
        Self { bar: ProgressBar::hidden(), has_terminal, logged_percent: AtomicU64::new(0) }
    }

    /// Starts the download of `total` bytes of `model`. The bar is not shown before.
    pub(crate) fn start(&self, model: &str, total: u64) {
        self.bar.set_length(total);
        if self.has_terminal {
            let style = ProgressStyle::with_template(TEMPLATE);
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar.set_message(model.to_owned());
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TICK);
        } else {
            tracing::info!(model, size = %BinaryBytes(total), "download started");
        }
    }

    /// Adds `bytes` that were downloaded.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        if !self.has_terminal {
            self.log();
        }
    }

    /// Adds `bytes` that need no download. The rate does not include them.
    pub(crate) fn skip(&self, bytes: u64) {
        self.bar.set_position(self.bar.position() + bytes);
        self.bar.reset_eta();
    }

    /// Subtracts `bytes` that must be downloaded again.
    pub(crate) fn rewind(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    fn log(&self) {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        let step = percent - percent % LOG_STEP_PERCENT;
        if step > self.logged_percent.fetch_max(step, Ordering::Relaxed) {
            let (done, total) = (BinaryBytes(done), BinaryBytes(total));
            tracing::info!(percent = step, %done, %total, "download progressed");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewound_bytes_are_counted_once() {
        let progress = Progress::logged();
        progress.start("org/name", 100);
        progress.skip(30);
        progress.advance(20);
        progress.rewind(50);
        progress.advance(100);
        assert_eq!(progress.bar.position(), 100);
        assert_eq!(progress.logged_percent.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn bar_template_is_valid() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
