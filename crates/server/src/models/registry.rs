//! The loaded models by name.
//!
//! They can change while the server runs: a call uses the model that it found at its start.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use blip::Architecture;
use scheduler::{EngineError, Snapshot};

use crate::{
    error::{ErrorReason, RequestError},
    models::{
        info::{ModelInfo, task_description},
        loaded_model::{InferenceEngine, LoadedModel},
        serving_state::ServingState,
    },
};

/// The maximum number of model names in an error message.
const MAX_LISTED_NAMES: usize = 8;

/// Lists the models for clients.
pub trait Catalogue: Send + Sync + 'static {
    /// Returns all models in the order of the registry.
    ///
    /// # Errors
    /// A [`RequestError`] if no model serves requests.
    fn list(&self) -> Result<Vec<Arc<ModelInfo>>, RequestError>;

    /// Returns the model of this name, or the first model if `name` is empty.
    ///
    /// # Errors
    /// A [`RequestError`] if the model is unknown, or no model serves requests.
    fn get(&self, name: &str) -> Result<Arc<ModelInfo>, RequestError>;
}

impl fmt::Debug for dyn Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Catalogue")
    }
}

/// The models of a server, in order. Clones share them.
#[derive(Debug)]
pub struct ModelRegistry<E: InferenceEngine>(Arc<ArcSwap<ServingState<E>>>);

impl<E: InferenceEngine> Clone for ModelRegistry<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: InferenceEngine> ModelRegistry<E> {
    /// Creates a registry whose models are still loading.
    #[must_use]
    pub fn loading() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(ServingState::Loading)))
    }

    /// Creates a registry of loaded models. The first is the default.
    #[must_use]
    pub fn of(models: Vec<Arc<LoadedModel<E>>>) -> Self {
        let registry = Self::loading();
        registry.serve(models);
        registry
    }

    /// Replaces all models and accepts requests.
    pub fn serve(&self, models: Vec<Arc<LoadedModel<E>>>) {
        self.0.store(Arc::new(ServingState::Serving(models)));
    }

    /// Replaces the models by those that `edit` returns for the current ones.
    ///
    /// # Errors
    /// A [`RequestError`] if no model serves requests.
    pub fn edit(
        &self,
        edit: impl Fn(&[Arc<LoadedModel<E>>]) -> Vec<Arc<LoadedModel<E>>>,
    ) -> Result<(), RequestError> {
        let before = self.0.rcu(|state| match state.serving() {
            Ok(models) => Arc::new(ServingState::Serving(edit(models))),
            Err(_) => Arc::clone(state),
        });
        before.serving().map(|_| ())
    }

    /// Marks all models as failed: later calls return `error`.
    pub fn fail(&self, error: &EngineError) {
        self.0.rcu(|state| Arc::new(ServingState::Failed(error.clone(), state.loaded().to_vec())));
    }

    /// Returns all models.
    ///
    /// # Errors
    /// A [`RequestError`] if no model serves requests.
    pub fn all(&self) -> Result<Vec<Arc<LoadedModel<E>>>, RequestError> {
        self.0.load().serving().map(<[_]>::to_vec)
    }

    /// Returns the model of this name, or the first model of this architecture if `name` is empty.
    ///
    /// # Errors
    /// A [`RequestError`] if the model is unknown or has another architecture, or no model serves
    /// requests.
    pub fn find(&self, name: &str, architecture: Architecture) -> Result<Arc<LoadedModel<E>>, RequestError> {
        let state = self.0.load();
        let models = state.serving()?;
        let fits = |model: &&Arc<LoadedModel<E>>| model.info.architecture == architecture;
        if name.is_empty() {
            return models
                .iter()
                .find(fits)
                .cloned()
                .ok_or_else(|| mismatch(format!("no model {}", task_description(architecture))));
        }
        let named = named(models, name)?;
        if fits(&named) {
            return Ok(Arc::clone(named));
        }
        let others = models.iter().filter(fits).map(|model| &*model.info.name);
        let other = match list_names(others) {
            names if names.is_empty() => format!("no model {}", task_description(architecture)),
            names => format!("{names} {}", task_description(architecture)),
        };
        Err(mismatch(format!("{name} {}, {other}", task_description(named.info.architecture))))
    }

    /// Returns a snapshot of each model's scheduler, also if the models have failed.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(Arc<ModelInfo>, Snapshot)> {
        let snapshot = |model: &Arc<LoadedModel<E>>| (Arc::clone(&model.info), model.scheduler.snapshot());
        self.0.load().loaded().iter().map(snapshot).collect()
    }
}

impl<E: InferenceEngine> Catalogue for ModelRegistry<E> {
    fn list(&self) -> Result<Vec<Arc<ModelInfo>>, RequestError> {
        Ok(self.0.load().serving()?.iter().map(|model| Arc::clone(&model.info)).collect())
    }

    fn get(&self, name: &str) -> Result<Arc<ModelInfo>, RequestError> {
        let state = self.0.load();
        let models = state.serving()?;
        match models.first() {
            Some(first) if name.is_empty() => Ok(Arc::clone(&first.info)),
            _ => Ok(Arc::clone(&named(models, name)?.info)),
        }
    }
}

/// Returns the model of this name.
///
/// # Errors
/// A [`RequestError`] that lists the available names.
pub fn named<'a, E: InferenceEngine>(
    models: &'a [Arc<LoadedModel<E>>],
    name: &str,
) -> Result<&'a Arc<LoadedModel<E>>, RequestError> {
    models.iter().find(|model| &*model.info.name == name).ok_or_else(|| {
        let names = list_names(models.iter().map(|model| &*model.info.name));
        RequestError::new(ErrorReason::ModelUnknown).field("model").value(format!("{name:?}")).limit(names)
    })
}

fn mismatch(cause: String) -> RequestError {
    RequestError::new(ErrorReason::ModelTaskMismatch).field("model").cause(cause)
}

/// Joins the first names of a list, so that an error message remains short.
fn list_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.take(MAX_LISTED_NAMES + 1).collect();
    if names.len() > MAX_LISTED_NAMES {
        names.truncate(MAX_LISTED_NAMES);
        names.push("others");
    }
    names.join(", ")
}
