//! Keeps what is told of health in step with the engines and the canary, and says when they are past saving.

use std::time::Duration;

use scheduler::{EngineError, EngineErrorKind, EngineState};
use tokio::sync::watch;

use crate::health::ModelHealth;

/// Reports to `health` whether the engines work and the canary is `well`, until no engine is left or one has been stalled
/// for `hang_limit`.
pub async fn watch(
    mut engines: watch::Receiver<EngineState>,
    mut well: watch::Receiver<bool>,
    health: &ModelHealth,
    hang_limit: Duration,
) -> EngineError {
    let hang = tokio::time::sleep(Duration::MAX);
    let mut hang = std::pin::pin!(hang);
    let mut stalled = false;
    loop {
        let (state, well_now) = (engines.borrow_and_update().clone(), *well.borrow_and_update());
        health.report(state.is_serving() && well_now).await;
        match state {
            EngineState::Dead(error) => return error,
            EngineState::Stalled if !stalled => {
                stalled = true;
                hang.set(tokio::time::sleep(hang_limit));
            }
            EngineState::Stalled => {}
            EngineState::Ready | EngineState::Degraded { .. } => stalled = false,
        }
        tokio::select! {
            changed = engines.changed() => if changed.is_err() {
                // The scheduler has been shut down; whoever did that says how the server ends.
                return std::future::pending().await;
            },
            Ok(()) = well.changed() => {}
            () = &mut hang, if stalled => {
                return EngineError::new(EngineErrorKind::Fatal, "an engine hangs in one batch");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_server::Health as _,
    };

    use super::*;
    use crate::health::Health;

    const HANG_LIMIT: Duration = Duration::from_secs(60);

    /// An open server, and its model.
    async fn open() -> (Health, ModelHealth) {
        let health = Health::default();
        health.report(true).await;
        let model = health.of("model".into());
        (health, model)
    }

    async fn is_serving(health: &Health) -> bool {
        let request = tonic::Request::new(HealthCheckRequest::default());
        health.service().check(request).await.unwrap().into_inner().status() == ServingStatus::Serving
    }

    async fn tick() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_engine_is_not_serving_and_one_that_hangs_is_broken() {
        let (health, model) = open().await;
        let (engine, state) = watch::channel(EngineState::Ready);
        let (_well, well) = watch::channel(true);
        let begin = Instant::now();
        let watched = watch(state, well, &model, HANG_LIMIT);
        let story = async {
            engine.send_replace(EngineState::Stalled);
            tick().await;
            assert!(!is_serving(&health).await);
            engine.send_replace(EngineState::Ready);
            tick().await;
            assert!(is_serving(&health).await);
            engine.send_replace(EngineState::Stalled);
        };
        let (error, ()) = tokio::join!(watched, story);
        assert_eq!(error.kind, EngineErrorKind::Fatal);
        assert_eq!(begin.elapsed(), Duration::from_secs(2) + HANG_LIMIT);
        assert!(!is_serving(&health).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_is_not_serving_while_the_canary_is_not_well() {
        let (health, model) = open().await;
        let (engine, state) = watch::channel(EngineState::Ready);
        let (canary, well) = watch::channel(true);
        let story = async {
            canary.send_replace(false);
            tick().await;
            assert!(!is_serving(&health).await);
            engine.send_replace(EngineState::Degraded { alive: 1, total: 2 });
            tick().await;
            assert!(!is_serving(&health).await);
            canary.send_replace(true);
            tick().await;
            assert!(is_serving(&health).await);
        };
        tokio::select! {
            error = watch(state, well, &model, HANG_LIMIT) => panic!("{error}"),
            () = story => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn news_of_the_canary_does_not_give_a_hanging_engine_more_time() {
        let (_health, model) = open().await;
        let (_engine, state) = watch::channel(EngineState::Stalled);
        let (canary, well) = watch::channel(true);
        let begin = Instant::now();
        let story = async {
            for _ in 0..90 {
                tick().await;
                canary.send_replace(false);
            }
        };
        tokio::select! {
            _ = watch(state, well, &model, HANG_LIMIT) => assert_eq!(begin.elapsed(), HANG_LIMIT),
            () = story => panic!("it should have been given up"),
        }
    }
}
