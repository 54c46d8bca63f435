//! The same towers on slices, by the kernels of `cpu_kernels`: for models in f32 on the CPU.
//!
//! The image encoder is for models of all sizes, and shares its work among threads. What answers questions is for small ones, on the
//! one thread that calls it: LibTorch needs some microseconds for each call of an operator and hands out memory for each result.
//! Where a layer has a few hundred thousand weights, that is more than the arithmetic (docs/decisions/own-kernels.md). What is
//! asked more rarely (beams, draws, candidates, captions, matching) goes through the other modules, with the same image features.

pub(crate) mod text_decoder;
pub(crate) mod text_encoder;
pub(crate) mod image_states;
pub(crate) mod text_layer;
pub(crate) mod vision_encoder;
pub(crate) mod buffer_pool;
pub(crate) mod quantizable_linear;
pub(crate) mod load;
pub(crate) mod worker_pool;

#[cfg(test)]
pub(crate) mod tests;

use crate::{
    checkpoint::config::BlipConfig,
    cpu::{text_decoder::CpuTextDecoder, text_encoder::CpuTextEncoder},
    error::LoadError,
    layers::{linear::Linear, weight_path::WeightPath},
};

/// What answers questions: an encoder of questions and a decoder of answers.
#[derive(Debug)]
pub(crate) struct CpuQuestionAnswering {
    pub(crate) questions: CpuTextEncoder,
    pub(crate) decoder: CpuTextDecoder,
}

impl CpuQuestionAnswering {
    /// Loads `text_encoder.*` and `text_decoder.*`; `vocabulary` is the head's last layer.
    pub(crate) fn load(
        root: &WeightPath<'_>,
        config: &BlipConfig,
        vocabulary: &Linear,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            questions: CpuTextEncoder::load(root, config)?,
            decoder: CpuTextDecoder::load(root, config, vocabulary)?,
        })
    }
}
