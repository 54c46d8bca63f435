//! Reports the health of a model from the state of its engines and the result of its self-test.

use std::time::Duration;

use scheduler::{EngineError, EngineErrorKind, EngineState};
use tokio::sync::watch;

use crate::lifecycle::health::ModelHealth;

/// Reports to `health` until all engines are dead, or one has been stalled for `hang_timeout`.
///
/// The model is healthy while an engine works and `self_test` is true. Returns the reason of the
/// failure.
pub async fn watch(
    mut engines: watch::Receiver<EngineState>,
    mut self_test: watch::Receiver<bool>,
    health: &ModelHealth,
    hang_timeout: Duration,
) -> EngineError {
    let hang = tokio::time::sleep(Duration::MAX);
    let mut hang = std::pin::pin!(hang);
    let mut is_stalled = false;
    loop {
        let (state, has_passed) = (engines.borrow_and_update().clone(), *self_test.borrow_and_update());
        health.report(state.is_serving() && has_passed);
        match state {
            EngineState::Dead(error) => return error,
            EngineState::Stalled if !is_stalled => {
                is_stalled = true;
                hang.set(tokio::time::sleep(hang_timeout));
            }
            EngineState::Stalled => {}
            EngineState::Ready | EngineState::Degraded { .. } => is_stalled = false,
        }
        tokio::select! {
            changed = engines.changed() => if changed.is_err() {
                // The scheduler has been shut down, by code that also decides how the server ends.
                return std::future::pending().await;
            },
            Ok(()) = self_test.changed() => {}
            () = &mut hang, if is_stalled => {
                return EngineError::new(EngineErrorKind::Fatal, "engine hangs in a batch");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::lifecycle::health::Health;

    const HANG_TIMEOUT: Duration = Duration::from_secs(60);

    /// Returns the health of a server that accepts calls, and of its model.
    fn accepting_server() -> (Health, ModelHealth) {
        let health = Health::default();
        health.set_accepting(true);
        let model = health.of("model".into());
        (health, model)
    }

    fn is_serving(health: &Health) -> bool {
        health.status("") == Some(true)
    }

    async fn tick() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_engine_is_unhealthy_and_fails_after_the_timeout() {
        let (health, model) = accepting_server();
        let (engine, state) = watch::channel(EngineState::Ready);
        let (_self_test, result) = watch::channel(true);
        let begin = Instant::now();
        let watched = watch(state, result, &model, HANG_TIMEOUT);
        let events = async {
            engine.send_replace(EngineState::Stalled);
            tick().await;
            assert!(!is_serving(&health));
            engine.send_replace(EngineState::Ready);
            tick().await;
            assert!(is_serving(&health));
            engine.send_replace(EngineState::Stalled);
        };
        let (error, ()) = tokio::join!(watched, events);
        assert_eq!(error.kind, EngineErrorKind::Fatal);
        assert_eq!(begin.elapsed(), Duration::from_secs(2) + HANG_TIMEOUT);
        assert!(!is_serving(&health));
    }

    #[tokio::test(start_paused = true)]
    async fn model_is_unhealthy_while_its_self_test_fails() {
        let (health, model) = accepting_server();
        let (engine, state) = watch::channel(EngineState::Ready);
        let (self_test, result) = watch::channel(true);
        let events = async {
            self_test.send_replace(false);
            tick().await;
            assert!(!is_serving(&health));
            engine.send_replace(EngineState::Degraded { alive: 1, total: 2 });
            tick().await;
            assert!(!is_serving(&health));
            self_test.send_replace(true);
            tick().await;
            assert!(is_serving(&health));
        };
        tokio::select! {
            error = watch(state, result, &model, HANG_TIMEOUT) => panic!("{error}"),
            () = events => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn self_test_results_do_not_extend_the_hang_timeout() {
        let (_health, model) = accepting_server();
        let (_engine, state) = watch::channel(EngineState::Stalled);
        let (self_test, result) = watch::channel(true);
        let begin = Instant::now();
        let events = async {
            for _ in 0..90 {
                tick().await;
                self_test.send_replace(false);
            }
        };
        tokio::select! {
            _ = watch(state, result, &model, HANG_TIMEOUT) => assert_eq!(begin.elapsed(), HANG_TIMEOUT),
            () = events => panic!("the watchdog did not report the hanging engine"),
        }
    }
}
