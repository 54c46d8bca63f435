//! Whether calls are answered: not before the model is loaded, and not once the engine has broken.

use std::sync::Arc;

use scheduler::EngineError;

use crate::{
    errors::{Reason, Refusal},
    frontend::{Answering, Pipeline},
};

/// What a call finds.
#[derive(Debug)]
pub enum Gate<E: Answering> {
    /// The model is still loading.
    Loading,
    /// Calls are answered.
    Open(Arc<Pipeline<E>>),
    /// The last engine has stopped.
    Broken(EngineError),
}

impl<E: Answering> Gate<E> {
    /// The way through.
    ///
    /// # Errors
    /// A [`Refusal`] of the call where there is none.
    pub fn pipeline(&self) -> Result<Arc<Pipeline<E>>, Refusal> {
        match self {
            Self::Loading => Err(Refusal::new(Reason::ModelLoading)),
            Self::Open(pipeline) => Ok(Arc::clone(pipeline)),
            Self::Broken(error) => Err(Refusal::new(Reason::EngineBroken).cause(error)),
        }
    }
}
