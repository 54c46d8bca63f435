//! Counts and logs what happens to worker processes.

use std::{sync::Arc, time::Duration};

use sandbox::{CallError, Confinement, Event};

use crate::telemetry::{
    logging::throttle::LogThrottle,
    metrics::{count_worker_end, count_worker_start},
};

/// The shortest time between two log lines about workers that ended.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Returns a function that counts the events of all workers, and logs them within bounds.
pub(super) fn observer() -> Arc<dyn Fn(Event<'_>) + Send + Sync> {
    let unconfined = LogThrottle::every(Duration::MAX);
    let ended = LogThrottle::every(LOG_PERIOD);
    Arc::new(move |event| match event {
        Event::Started(confinement) => {
            count_worker_start();
            if !confinement.is_full() && unconfined.record().is_some() {
                let Confinement { system_calls, file_system } = confinement;
                tracing::warn!(
                    seccomp = system_calls,
                    landlock = file_system,
                    "decode workers not fully confined: no support in the kernel"
                );
            }
        }
        Event::Ended(error) => {
            count_worker_end(error.label());
            if let Some(count) = is_unexpected(error).then(|| ended.record()).flatten() {
                tracing::warn!(%error, count, "decode worker ended");
            }
        }
    })
}

/// Returns whether the operator should see how the worker ended. Callers that leave, and deadlines,
/// are ordinary.
fn is_unexpected(error: &CallError) -> bool {
    !matches!(error, CallError::Cancelled | CallError::Deadline)
}
