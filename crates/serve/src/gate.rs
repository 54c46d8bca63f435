//! Whether calls are answered: not before the models are loaded, and not once an engine has broken.

use std::sync::Arc;

use scheduler::EngineError;

use crate::{
    errors::{Reason, Refusal},
    frontend::{Answering, Pipeline},
};

/// What a call finds.
#[derive(Debug)]
pub enum Gate<E: Answering> {
    /// The models are still loading.
    Loading,
    /// Calls are answered by these, of which there is at least one.
    Open(Vec<Arc<Pipeline<E>>>),
    /// The last engine of a model has stopped. The models are as they were, for those who look.
    Broken(EngineError, Vec<Arc<Pipeline<E>>>),
}

impl<E: Answering> Gate<E> {
    /// The ways through.
    ///
    /// # Errors
    /// A [`Refusal`] of the call where there is none.
    pub fn pipelines(&self) -> Result<&[Arc<Pipeline<E>>], Refusal> {
        match self {
            Self::Loading => Err(Refusal::new(Reason::ModelLoading)),
            Self::Open(pipelines) => Ok(pipelines),
            Self::Broken(error, _) => Err(Refusal::new(Reason::EngineBroken).cause(error)),
        }
    }

    /// The models that are there, whether calls are answered or not.
    pub fn there(&self) -> &[Arc<Pipeline<E>>] {
        match self {
            Self::Loading => &[],
            Self::Open(pipelines) | Self::Broken(_, pipelines) => pipelines,
        }
    }
}
