//! The CPU implementation: the networks on slices, with the kernels of `cpu_kernels`, for models in
//! f32.
//!
//! - The vision encoder serves models of all sizes and divides its work among threads.
//! - Question answering serves small models and runs on the calling thread.
//!
//! LibTorch needs some microseconds for each operator call and allocates each result. If a layer
//! has a few hundred thousand weights, this costs more than the arithmetic. See
//! `docs/decisions/native-cpu-kernels.md`.
//!
//! Rarer tasks (beam search, sampling, candidates, captions, matching) run on LibTorch with the
//! same image features.

pub(crate) mod text_decoder;
pub(crate) mod text_encoder;
pub(crate) mod image_states;
pub(crate) mod text_layer;
pub(crate) mod vision_encoder;
pub(crate) mod buffer_pool;
pub(crate) mod load;

#[cfg(test)]
pub(crate) mod tests;

use crate::{
    checkpoint::config::BlipConfig,
    cpu::{text_decoder::CpuTextDecoder, text_encoder::CpuTextEncoder},
    error::LoadError,
    layers::{linear::Linear, weight_path::WeightPath},
};

/// Text encoder and text decoder for question answering.
#[derive(Debug)]
pub(crate) struct CpuQuestionAnswering {
    pub(crate) questions: CpuTextEncoder,
    pub(crate) decoder: CpuTextDecoder,
}

impl CpuQuestionAnswering {
    /// Loads `text_encoder.*` and `text_decoder.*`. `vocabulary` is the last layer of the decoder's
    /// head.
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
