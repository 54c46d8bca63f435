//! Small models on the CPU: the same towers on slices, by the kernels of `cpu_kernels`, on the one thread that calls them.
//!
//! LibTorch needs some microseconds for each call of an operator and hands out memory for each result. Where a layer has a few
//! hundred thousand weights, that is more than the arithmetic (docs/decisions/own-kernels.md). What is asked more rarely (beams,
//! draws, candidates, captions, matching) goes through the other modules, with the same image features.

mod answers;
mod buffer;
mod images;
mod load;
mod questions;
mod text_layer;
mod vision;

#[cfg(test)]
mod tests;

use crate::{config::BlipConfig, error::LoadError, weights::Scope};

pub(crate) use self::{
    answers::{AnswerState, SmallDecoder},
    images::Images,
    questions::{SmallQuestionEncoder, key_value_shape},
    vision::SmallVision,
};

/// What answers questions: an encoder of questions and a decoder of answers.
#[derive(Debug)]
pub(crate) struct SmallAnswering {
    pub(crate) questions: SmallQuestionEncoder,
    pub(crate) decoder: SmallDecoder,
}

impl SmallAnswering {
    /// Loads `text_encoder.*` and `text_decoder.*`; `vocabulary` is the head's last layer.
    pub(crate) fn load(
        root: &Scope<'_>,
        config: &BlipConfig,
        vocabulary: &crate::layers::Linear,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            questions: SmallQuestionEncoder::load(root, config)?,
            decoder: SmallDecoder::load(root, config, vocabulary)?,
        })
    }
}
