//! Public facts about a loaded model, for clients, metrics and the ready line.

use std::sync::Arc;

use blip::{Architecture, Checkpoint, Conventions};

/// Public facts about a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name that requests use.
    pub name: Arc<str>,
    /// Its source, as written in the settings or the request.
    pub source: String,
    /// The commit on the hub, for a model from a hub.
    pub revision: Option<String>,
    /// Its architecture, which determines its task.
    pub architecture: Architecture,
    /// The device of its engines.
    pub device: String,
    /// The number format of weights and activations.
    pub dtype: String,
    /// Height and width of images, in pixels.
    pub image_size: u32,
    /// The number of patches along each side of an image.
    pub patch_grid: u32,
    /// The maximum length of a text, in tokens.
    pub max_text_tokens: u32,
    /// The maximum length of a generated text, in tokens, or 0 if it generates none.
    pub max_new_tokens: u32,
    /// The default number of beams of a generated text.
    pub num_beams: u32,
    /// The token that ends a generated text.
    pub stop_token: u32,
    /// The length of an embedding, or 0 if it computes none.
    pub embedding_size: u32,
    /// The number of parameters.
    pub parameters: u64,
    /// The conventions of tokenization and generation.
    pub conventions: Conventions,
    /// The names of the candidate lists that questions may use, sorted.
    pub candidate_lists: Vec<String>,
}

impl ModelInfo {
    /// Creates a description for tests.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, source: &str) -> Self {
        Self {
            name: name.into(),
            source: source.to_owned(),
            revision: None,
            architecture: Architecture::QuestionAnswering,
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            image_size: 384,
            patch_grid: 24,
            max_text_tokens: 512,
            max_new_tokens: 20,
            num_beams: 1,
            stop_token: 102,
            embedding_size: 0,
            parameters: 1,
            conventions: Conventions::default(),
            candidate_lists: Vec::new(),
        }
    }

    /// Describes the model in `checkpoint`.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        source: impl Into<String>,
        revision: Option<String>,
        checkpoint: &Checkpoint,
        device: impl Into<String>,
        dtype: impl Into<String>,
    ) -> Self {
        let count = |number: i64| u32::try_from(number).unwrap_or_default();
        let config = checkpoint.config();
        let architecture = config.architecture();
        let is_retrieval = architecture == Architecture::Retrieval;
        Self {
            name,
            source: source.into(),
            revision,
            architecture,
            device: device.into(),
            dtype: dtype.into(),
            image_size: count(config.vision.image_size),
            patch_grid: count(config.vision.grid()),
            max_text_tokens: count(config.text.max_position_embeddings),
            max_new_tokens: if is_retrieval { 0 } else { count(checkpoint.generation().max_new_tokens) },
            num_beams: checkpoint.generation().num_beams,
            stop_token: count(config.text.sep_token_id),
            embedding_size: config.embedding_size().map_or(0, count),
            parameters: u64::try_from(config.parameters()).unwrap_or_default(),
            conventions: checkpoint.conventions(),
            candidate_lists: Vec::new(),
        }
    }
}

/// Returns what models of an architecture do, in words.
#[must_use]
pub fn task_description(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::QuestionAnswering => "answers questions",
        Architecture::Captioning => "writes captions",
        Architecture::Retrieval => "compares images with texts",
    }
}
