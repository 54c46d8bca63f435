//! A loaded model: preprocessing and a scheduler with its engines.

use std::sync::Arc;

use blip::{Generation, Pixels};
use scheduler::{Engine, Scheduler};

use crate::{
    engine::payload::{EngineInput, EngineOutput},
    models::info::ModelInfo,
    preprocess::{fetch::ImageFetcher, preparer::Preparer},
};

/// An engine with the payload types of BLIP models.
pub trait InferenceEngine: Engine<Image = Pixels, Question = EngineInput, Answer = EngineOutput> {}

impl<E: Engine<Image = Pixels, Question = EngineInput, Answer = EngineOutput>> InferenceEngine for E {}

/// A model with everything that it needs to serve requests.
#[derive(Debug)]
pub struct LoadedModel<E: InferenceEngine> {
    /// Facts about the model.
    pub info: Arc<ModelInfo>,
    /// Fetches images by URL.
    pub fetcher: ImageFetcher,
    /// Turns image files and texts into pixels and token ids.
    pub preparer: Preparer,
    /// Runs batches of pixels and token ids on the engines.
    pub scheduler: Scheduler<E>,
    /// The generation options of requests that set none.
    pub generation: Generation,
}
