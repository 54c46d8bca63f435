//! The timer task: expires jobs on time and detects stalled engines.

use std::sync::Arc;

use super::inner::Inner;
use crate::engine::Engine;

/// Calls the state machine at each of its timers until it is drained.
pub(crate) async fn run_timer<E: Engine>(inner: Arc<Inner<E>>) {
    loop {
        // Created before the state is read, so that a change in between is not missed.
        let changed = inner.timer.notified();
        let next = inner.apply(|machine, now, effects| {
            machine.tick(now, effects);
            effects.rearm_timer = false;
            if machine.is_drained() { Err(()) } else { Ok(machine.next_timer()) }
        });
        inner.publish_state();
        match next {
            Err(()) => return,
            Ok(None) => changed.await,
            Ok(Some(when)) => tokio::select! {
                () = tokio::time::sleep_until(when) => {}
                () = changed => {}
            },
        }
    }
}
