//! Whether the server accepts requests: loading, serving, or failed.

use std::sync::Arc;

use scheduler::EngineError;

use crate::{
    error::{ErrorReason, RequestError},
    models::loaded_model::{InferenceEngine, LoadedModel},
};

/// The state of a server's models.
#[derive(Debug)]
pub enum ServingState<E: InferenceEngine> {
    /// The models of the settings are loading.
    Loading,
    /// These models serve requests. There is at least one.
    Serving(Vec<Arc<LoadedModel<E>>>),
    /// The last engine of a model has stopped. The models remain for inspection.
    Failed(EngineError, Vec<Arc<LoadedModel<E>>>),
}

impl<E: InferenceEngine> ServingState<E> {
    /// Returns the models that serve requests.
    ///
    /// # Errors
    /// A [`RequestError`] for the whole request in every state but [`ServingState::Serving`].
    pub fn serving(&self) -> Result<&[Arc<LoadedModel<E>>], RequestError> {
        match self {
            Self::Loading => Err(RequestError::new(ErrorReason::ModelLoading)),
            Self::Serving(models) => Ok(models),
            Self::Failed(error, _) => Err(RequestError::new(ErrorReason::EngineBroken).cause(error)),
        }
    }

    /// Returns the loaded models, also if they no longer serve requests.
    pub fn loaded(&self) -> &[Arc<LoadedModel<E>>] {
        match self {
            Self::Loading => &[],
            Self::Serving(models) | Self::Failed(_, models) => models,
        }
    }
}
