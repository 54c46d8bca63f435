//! Supervises one loaded model.
//!
//! The supervisor runs the model's self-test before it serves traffic, then its watchdog and
//! periodic self-tests.

use std::{sync::Arc, time::Duration};

use scheduler::{EngineError, EngineErrorKind};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    cache::answers::AnswerCache,
    config::{Settings, sections::limits::RequestLimits},
    lifecycle::{health::ModelHealth, self_test::SelfTest, watchdog},
    models::{
        info::ModelInfo,
        loaded_model::{InferenceEngine, LoadedModel},
        registry::ModelRegistry,
    },
    pipeline::dispatcher::Dispatcher,
};

/// A model that has passed its first self-test.
#[derive(Debug)]
pub struct SupervisedModel<E: InferenceEngine> {
    /// The model.
    pub model: Arc<LoadedModel<E>>,
    /// The self-test with the idle time after which it runs, or `None` if self-tests are off.
    self_test: Option<(SelfTest, Duration)>,
}

impl<E: InferenceEngine> SupervisedModel<E> {
    /// Runs the first self-test of `model`, which no client can use yet.
    ///
    /// # Errors
    /// A model that answers no question of the self-test.
    pub async fn warm_up(model: LoadedModel<E>, settings: &Settings) -> anyhow::Result<Self> {
        let model = Arc::new(model);
        let Some(idle) = settings.self_test.idle() else {
            return Ok(Self { model, self_test: None });
        };
        // The limits of the settings are for clients, not for the self-test.
        let limits = RequestLimits::default();
        let models = ModelRegistry::of(vec![Arc::clone(&model)]);
        // A cached answer would not test the engine.
        let dispatcher = Dispatcher::new(models, limits, TaskTracker::new()).without_answer_cache();
        let ModelInfo { name, architecture, .. } = &*model.info;
        let self_test = SelfTest::new(Arc::new(dispatcher), name, *architecture).await;
        let self_test = self_test.map_err(|error| anyhow::anyhow!("self-test failed: {error}"))?;
        Ok(Self { model, self_test: Some((self_test, idle)) })
    }

    /// Reports to `health` until the model fails, and returns the reason.
    ///
    /// The model fails if all its engines are dead, one has been stalled for `hang_timeout`, or its
    /// self-test fails repeatedly.
    pub async fn watch(self, health: ModelHealth, hang_timeout: Duration) -> EngineError {
        let healthy = watch::Sender::new(true);
        let scheduler = &self.model.scheduler;
        let self_test_failure = async {
            match &self.self_test {
                Some((self_test, idle)) => self_test.watch(|| scheduler.snapshot(), *idle, &healthy).await,
                None => std::future::pending().await,
            }
        };
        let cache_clearing = async {
            clear_unreliable_answers(self.model.preparer.answers(), healthy.subscribe()).await;
            std::future::pending().await
        };
        let (engines, results) = (scheduler.engine_state(), healthy.subscribe());
        tokio::select! {
            error = watchdog::watch(engines, results, &health, hang_timeout) => error,
            never = cache_clearing => never,
            failure = self_test_failure => {
                EngineError::new(EngineErrorKind::Fatal, format!("self-test failed: {failure}"))
            }
        }
    }
}

/// Clears the answer cache after each failed self-test, and after the first success that follows.
///
/// The engine may have computed wrong answers in between.
async fn clear_unreliable_answers(answers: &AnswerCache, mut healthy: watch::Receiver<bool>) {
    let mut was_healthy = true;
    while healthy.changed().await.is_ok() {
        let is_healthy = *healthy.borrow_and_update();
        if !(was_healthy && is_healthy) {
            answers.clear();
        }
        was_healthy = is_healthy;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use blip::RowOutput;
    use images::ImageDigest;

    use super::*;
    use crate::cache::answers::AnswerKey;

    #[tokio::test]
    async fn answers_are_cleared_on_failure_and_on_recovery() {
        let answers = AnswerCache::new(1 << 20, &"model".into());
        let key = AnswerKey::new(ImageDigest([1; 32]), [2; 32]);
        let healthy = watch::Sender::new(true);
        let mut clearing = pin!(clear_unreliable_answers(&answers, healthy.subscribe()));
        let results = [(true, true), (false, false), (false, false), (true, false), (true, true)];
        for (is_healthy, is_cached) in results {
            answers.insert(key, &RowOutput::Embedding(vec![0.5]));
            healthy.send_replace(is_healthy);
            assert!(futures::poll!(&mut clearing).is_pending());
            assert_eq!(answers.get(key).is_some(), is_cached, "{is_healthy}");
        }
    }
}
