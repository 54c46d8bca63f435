//! What is told of a loaded model.

use std::sync::Arc;

use blip::{Architecture, Checkpoint, Flavour};

use crate::proto::{Model, Task};

/// A loaded model, for people and for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What requests call it.
    pub name: Arc<str>,
    /// Where it comes from, as it was written.
    pub source: String,
    /// The commit on the hub, if it comes from there.
    pub revision: Option<String>,
    /// What it is for.
    pub architecture: Architecture,
    /// The device in use.
    pub device: String,
    /// The number format in use.
    pub dtype: String,
    /// Height and width of images, in pixels.
    pub image_size: u32,
    /// Longest text, in tokens.
    pub max_text_tokens: u32,
    /// Tokens that it writes at most; 0 if it writes none.
    pub max_new_tokens: u32,
    /// Numbers of a vector; 0 if it makes none.
    pub embedding_size: u32,
    /// Parameters.
    pub parameters: u64,
    /// Whose conventions it follows.
    pub flavour: Flavour,
}

impl Description {
    /// A model of this name, for tests.
    #[cfg(test)]
    pub(crate) fn of_test(name: &str, source: &str) -> Self {
        Self {
            name: name.into(),
            source: source.to_owned(),
            revision: None,
            architecture: Architecture::QuestionAnswering,
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            image_size: 384,
            max_text_tokens: 512,
            max_new_tokens: 20,
            embedding_size: 0,
            parameters: 1,
            flavour: Flavour::default(),
        }
    }

    /// A model out of `checkpoint`.
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
        let compares = architecture == Architecture::Retrieval;
        Self {
            name,
            source: source.into(),
            revision,
            architecture,
            device: device.into(),
            dtype: dtype.into(),
            image_size: count(config.vision.image_size),
            max_text_tokens: count(config.text.max_position_embeddings),
            max_new_tokens: if compares { 0 } else { count(checkpoint.generation().max_new_tokens) },
            embedding_size: config.embedding_size().map_or(0, count),
            parameters: u64::try_from(config.parameters()).unwrap_or_default(),
            flavour: checkpoint.flavour(),
        }
    }

    /// The same for callers, with the names of the lists of candidates that its questions may name.
    #[must_use]
    pub fn to_proto(&self, candidate_lists: Vec<String>) -> Model {
        let task = match self.architecture {
            Architecture::QuestionAnswering => Task::QuestionAnswering,
            Architecture::Captioning => Task::Captioning,
            Architecture::Retrieval => Task::Matching,
        };
        Model {
            name: self.name.to_string(),
            source: self.source.clone(),
            revision: self.revision.clone().unwrap_or_default(),
            task: task.into(),
            device: self.device.clone(),
            dtype: self.dtype.clone(),
            image_size: self.image_size,
            max_text_tokens: self.max_text_tokens,
            max_new_tokens: self.max_new_tokens,
            embedding_size: self.embedding_size,
            parameters: self.parameters,
            flavour: self.flavour.to_string(),
            candidate_lists,
        }
    }
}

/// What models of an architecture do, in words.
#[must_use]
pub fn deed(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::QuestionAnswering => "answers questions",
        Architecture::Captioning => "writes captions",
        Architecture::Retrieval => "compares images with texts",
    }
}
