//! The timer task.

use std::sync::Arc;

use super::inner::Shared;
use crate::engine::Engine;

/// Answers expired jobs on time whatever the engines do, and sees engines that stall.
pub(crate) async fn keep_time<E: Engine>(shared: Arc<Shared<E>>) {
    loop {
        // Asked for before looking, so that a change in between is not missed.
        let changed = shared.timer.notified();
        let next = shared.event(|machine, now, effects| {
            machine.tick(now, effects);
            effects.rearm = false;
            if machine.is_drained() { Err(()) } else { Ok(machine.next_timer()) }
        });
        shared.report_health();
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
