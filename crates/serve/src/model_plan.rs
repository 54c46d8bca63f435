//! A model that is to be loaded, with all that holds for it.

use std::sync::Arc;

use anyhow::Context as _;
use metrics::Label;

use crate::{
    model_source::ModelSource,
    settings::{ModelChoice, ModelSettings, SchedulerSettings, Settings},
};

/// A model that is to be loaded.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// What requests call it.
    pub name: Arc<str>,
    /// Where it comes from, as it was written.
    pub written: String,
    /// Where it comes from.
    pub source: ModelSource,
    /// Where it runs, and how.
    pub model: ModelSettings,
    /// What may wait for it.
    pub scheduler: SchedulerSettings,
}

impl ModelPlan {
    /// All models that `settings` name, in their order.
    ///
    /// # Errors
    /// The first one whose source means nothing, with what was tried.
    pub fn all(settings: &Settings) -> anyhow::Result<Vec<Self>> {
        let plan = |choice: &ModelChoice| {
            let source = ModelSource::find(&choice.source);
            let source = source.with_context(|| format!("cannot load model {:?}", choice.source))?;
            Ok(Self::new(settings, choice, source))
        };
        settings.model.models.iter().map(plan).collect()
    }

    /// What `choice` leaves open is as `settings` say.
    #[must_use]
    pub fn new(settings: &Settings, choice: &ModelChoice, source: ModelSource) -> Self {
        let (mut model, mut scheduler) = (settings.model.clone(), settings.scheduler.clone());
        model.device = choice.device.unwrap_or(model.device);
        model.dtype = choice.dtype.unwrap_or(model.dtype);
        model.flavour = choice.flavour.unwrap_or(model.flavour);
        model.engines = choice.engines.or(model.engines);
        model.engine_threads = choice.engine_threads.or(model.engine_threads);
        model.feature_cache_bytes = choice.feature_cache_bytes.or(model.feature_cache_bytes);
        model.key_value_cache_bytes = choice.key_value_cache_bytes.or(model.key_value_cache_bytes);
        model.answer_cache_bytes = choice.answer_cache_bytes.unwrap_or(model.answer_cache_bytes);
        let queued = &mut scheduler.max_queued_questions;
        *queued = choice.max_queued_questions.unwrap_or(*queued);
        let queued = &mut scheduler.max_queued_questions_per_client;
        *queued = choice.max_queued_questions_per_client.unwrap_or(*queued);
        let bytes = &mut scheduler.max_queued_bytes;
        *bytes = choice.max_queued_bytes.unwrap_or(*bytes);
        Self { name: choice.name().shared(), written: choice.source.clone(), source, model, scheduler }
    }

    /// Its scheduler's configuration, whose metrics bear its name.
    #[must_use]
    pub fn scheduler_config(&self) -> scheduler::SchedulerConfig {
        let mut config = self.scheduler.config();
        config.labels = vec![Label::new("model", Arc::clone(&self.name))];
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_what_it_says_of_itself_and_for_the_rest_what_all_have() {
        let mut settings = Settings::default();
        settings.model.models = vec![
            r#"{"source": "demo", "device": "cpu", "answer_cache_bytes": 0, "max_queued_questions": 9}"#
                .parse()
                .unwrap(),
            "b=models/demo".parse().unwrap(),
        ];
        settings.model.feature_cache_bytes = Some(77);
        let models = ModelPlan::all(&settings).unwrap();
        let [demo, b] = models.as_slice() else { panic!("{models:?}") };
        assert_eq!((&*demo.name, &*b.name), ("demo", "b"));
        assert_eq!(
            (demo.model.device, b.model.device),
            (blip::DeviceRequest::Cpu, blip::DeviceRequest::Auto)
        );
        assert_eq!((demo.model.feature_cache_bytes, b.model.feature_cache_bytes), (Some(77), Some(77)));
        assert_eq!((demo.model.answer_cache_bytes, b.model.answer_cache_bytes), (0, 32 << 20));
        assert_eq!(demo.scheduler_config().queue.max_jobs, 9);
        assert_eq!(b.scheduler_config().queue.max_jobs, settings.scheduler.max_queued_questions);
        assert_eq!(b.scheduler_config().labels, [Label::new("model", "b")]);
    }

    #[test]
    fn a_source_that_means_nothing_is_told_with_what_was_tried() {
        let mut settings = Settings::default();
        settings.model.models = vec!["a=nowhere".parse().unwrap()];
        let error = format!("{:#}", ModelPlan::all(&settings).unwrap_err());
        assert!(error.starts_with("cannot load model \"nowhere\": not demo"), "{error}");
    }
}
