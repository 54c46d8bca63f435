//! The description of a model to load: its source and its settings.

use std::sync::Arc;

use anyhow::Context as _;
use metrics::Label;

use crate::{
    config::{
        Settings,
        sections::{model::ModelSettings, model_choice::ModelChoice, scheduler::SchedulerSettings},
    },
    models::source::ModelSource,
};

/// A model to load.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The name that requests use.
    pub name: Arc<str>,
    /// The text of its source, as written in the settings or the request.
    pub source_text: String,
    /// Its source.
    pub source: ModelSource,
    /// Its device, number format, engines and caches.
    pub model: ModelSettings,
    /// The settings of its scheduler.
    pub scheduler: SchedulerSettings,
}

impl ModelSpec {
    /// Returns the models that `settings` name, in their order.
    ///
    /// # Errors
    /// The first source that names no model.
    pub fn all(settings: &Settings) -> anyhow::Result<Vec<Self>> {
        let spec = |choice: &ModelChoice| {
            let source = ModelSource::find(&choice.source, settings.model.embedded);
            let source = source.with_context(|| format!("cannot load model {:?}", choice.source))?;
            Ok(Self::new(settings, choice, source))
        };
        settings.model.models.iter().map(spec).collect()
    }

    /// Combines `choice` with `settings`, which supply the options that `choice` does not set.
    #[must_use]
    pub fn new(settings: &Settings, choice: &ModelChoice, source: ModelSource) -> Self {
        let (mut model, mut scheduler) = (settings.model.clone(), settings.scheduler.clone());
        model.device = choice.device.unwrap_or(model.device);
        model.dtype = choice.dtype.unwrap_or(model.dtype);
        model.conventions = choice.conventions.unwrap_or(model.conventions);
        model.engines = choice.engines.or(model.engines);
        model.engine_threads = choice.engine_threads.or(model.engine_threads);
        model.feature_cache_bytes = choice.feature_cache_bytes.or(model.feature_cache_bytes);
        model.cross_attention_cache_bytes =
            choice.cross_attention_cache_bytes.or(model.cross_attention_cache_bytes);
        model.answer_cache_bytes = choice.answer_cache_bytes.unwrap_or(model.answer_cache_bytes);
        let queued = &mut scheduler.max_queued_questions;
        *queued = choice.max_queued_questions.unwrap_or(*queued);
        let queued = &mut scheduler.max_queued_questions_per_client;
        *queued = choice.max_queued_questions_per_client.unwrap_or(*queued);
        let bytes = &mut scheduler.max_queued_bytes;
        *bytes = choice.max_queued_bytes.unwrap_or(*bytes);
        Self { name: choice.name().shared(), source_text: choice.source.clone(), source, model, scheduler }
    }

    /// Returns the configuration of its scheduler. Metrics have the model's name as a label.
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
    fn model_options_override_general_settings() {
        let mut settings = Settings::default();
        settings.model.models = vec![
            r#"{"source": "../../models/demo", "device": "cpu", "answer_cache_bytes": 0, "max_queued_questions": 9}"#
                .parse()
                .unwrap(),
            "b=../../models/demo".parse().unwrap(),
        ];
        settings.model.feature_cache_bytes = Some(77);
        let models = ModelSpec::all(&settings).unwrap();
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
    fn invalid_source_error_names_the_model() {
        let mut settings = Settings::default();
        settings.model.models = vec!["a=nowhere".parse().unwrap()];
        let error = format!("{:#}", ModelSpec::all(&settings).unwrap_err());
        assert!(error.starts_with("cannot load model \"nowhere\": not an embedded model"), "{error}");
    }
}
