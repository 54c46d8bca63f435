//! One model's care: it has to answer a question before it serves, and is watched over for as long as it does.

use std::{sync::Arc, time::Duration};

use scheduler::{EngineError, EngineErrorKind};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    answer_cache::AnswerCache,
    canary::Canary,
    description::Description,
    frontend::{Answering, Frontend, Pipeline},
    health::ModelHealth,
    models::Models,
    settings::{RequestLimits, Settings},
    watchdog,
};

/// A model that has answered, with the question that it answered.
#[derive(Debug)]
pub struct Attended<E: Answering> {
    /// The model.
    pub pipeline: Arc<Pipeline<E>>,
    canary: Option<(Canary, Duration)>,
}

impl<E: Answering> Attended<E> {
    /// Has `pipeline` answer what its canary asks, by a way of its own: no caller finds it yet.
    ///
    /// # Errors
    /// If it answers nothing.
    pub async fn warm_up(pipeline: Pipeline<E>, settings: &Settings) -> anyhow::Result<Self> {
        let pipeline = Arc::new(pipeline);
        let Some(idle) = settings.canary.idle() else {
            return Ok(Self { pipeline, canary: None });
        };
        // The operator's limits on requests are none on what the server asks itself.
        let limits = RequestLimits::default();
        let models = Models::of(vec![Arc::clone(&pipeline)]);
        // An answer that was kept says nothing of the engine.
        let frontend = Frontend::new(models, limits, TaskTracker::new()).always_computing();
        let Description { name, architecture, .. } = &*pipeline.description;
        let canary = Canary::choose(Arc::new(frontend), name, *architecture).await;
        let canary = canary.map_err(|refusal| anyhow::anyhow!("the model answers no question: {refusal}"))?;
        Ok(Self { pipeline, canary: Some((canary, idle)) })
    }

    /// Tells `health` how the model is, until it is past saving: no engine is left, one has been stalled for `hang_limit`, or
    /// the canary is lost.
    pub async fn watch(self, health: ModelHealth, hang_limit: Duration) -> EngineError {
        let well = watch::Sender::new(true);
        let scheduler = &self.pipeline.scheduler;
        let canary_lost = async {
            match &self.canary {
                Some((canary, idle)) => canary.watch(|| scheduler.snapshot(), *idle, &well).await,
                None => std::future::pending().await,
            }
        };
        let forgetting = async {
            forget_in_doubt(self.pipeline.intake.answers(), well.subscribe()).await;
            std::future::pending().await
        };
        tokio::select! {
            error = watchdog::watch(scheduler.engine_health(), well.subscribe(), &health, hang_limit) => error,
            never = forgetting => never,
            lost = canary_lost => EngineError::new(EngineErrorKind::Fatal, lost.to_string()),
        }
    }
}

/// Has `answers` forgotten before and after the engine was not well: what it answered when it was in doubt is not told to others.
async fn forget_in_doubt(answers: &AnswerCache, mut well: watch::Receiver<bool>) {
    let mut was_well = true;
    while well.changed().await.is_ok() {
        let is_well = *well.borrow_and_update();
        if !(was_well && is_well) {
            answers.forget_all();
        }
        was_well = is_well;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use blip::RowOutput;
    use scheduler::ImageKey;

    use super::*;
    use crate::answer_cache::Pair;

    #[tokio::test]
    async fn answers_are_forgotten_when_the_engine_is_in_doubt_and_when_it_is_well_again() {
        let answers = AnswerCache::new(1 << 20, &"model".into());
        let pair = Pair::new(ImageKey([1; 32]), [2; 32]);
        let well = watch::Sender::new(true);
        let mut forgetting = pin!(forget_in_doubt(&answers, well.subscribe()));
        let said = [(true, true), (false, false), (false, false), (true, false), (true, true)];
        for (is_well, is_kept) in said {
            answers.keep(pair, &RowOutput::Embedding(vec![0.5]));
            well.send_replace(is_well);
            assert!(futures::poll!(&mut forgetting).is_pending());
            assert_eq!(answers.get(pair).is_some(), is_kept, "{is_well}");
        }
    }
}
