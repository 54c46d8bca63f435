//! Runs the self-test periodically while a model serves.

use std::time::Duration;

use scheduler::Snapshot;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    lifecycle::self_test::{SelfTest, SelfTestFailure, Verdict},
    telemetry::metrics,
};

/// The period in which the watch checks whether a self-test is due.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// The number of consecutive failures after which the engine counts as failed.
pub(super) const MAX_CONSECUTIVE_FAILURES: u32 = 3;

impl SelfTest {
    /// Runs the self-test after an idle time of the scheduler, and after each failed batch.
    ///
    /// The scheduler is idle while it answers nothing. Sends each result to `healthy`. After a
    /// failure the test runs in every period. Returns when the engine counts as failed.
    pub async fn watch(
        &self,
        snapshot: impl Fn() -> Snapshot,
        idle: Duration,
        healthy: &watch::Sender<bool>,
    ) -> SelfTestFailure {
        let (mut last, mut idle_since, mut consecutive_failures) = (snapshot(), Instant::now(), 0);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = snapshot();
            if now.answered != last.answered {
                idle_since = Instant::now();
            }
            let has_failed_batch = now.failed_batches != last.failed_batches;
            last = now;
            if !has_failed_batch && consecutive_failures == 0 && idle_since.elapsed() < idle {
                continue;
            }
            let verdict = self.run().await;
            metrics::count_self_test(&self.model, verdict.label());
            let failure = match verdict {
                Verdict::Inconclusive(error) => {
                    tracing::debug!(model = &*self.model, %error, "self-test inconclusive");
                    idle_since = Instant::now();
                    continue;
                }
                Verdict::Passed => None,
                Verdict::Wrong(answer) => Some(SelfTestFailure::Wrong {
                    question: self.question,
                    known: self.known.text.clone(),
                    got: answer.text,
                }),
                Verdict::Failed(error) => Some(SelfTestFailure::Failed(error)),
            };
            // The answers and failures of the self-test itself do not count.
            (last, idle_since) = (snapshot(), Instant::now());
            healthy.send_replace(failure.is_none());
            let Some(failure) = failure else {
                consecutive_failures = 0;
                continue;
            };
            consecutive_failures += 1;
            tracing::error!(model = &*self.model, consecutive_failures, %failure, "self-test failed");
            if consecutive_failures >= MAX_CONSECUTIVE_FAILURES {
                return failure;
            }
        }
    }
}
