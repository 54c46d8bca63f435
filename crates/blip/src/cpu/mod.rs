//! The CPU implementation: the networks on slices, with the kernels of `cpu_kernels`, for models
//! whose tensors are in f32.
//!
//! It computes images, texts and greedy answers. The threads of an engine divide the work. For a
//! small model, texts stay on the calling thread.
//!
//! LibTorch needs some microseconds for each operator call and allocates each result, on one
//! thread. See `docs/decisions/native-cpu-kernels.md`.
//!
//! Rarer tasks (beam search, sampling, candidates, captions) run on LibTorch with the same image
//! features and the same weights.

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
    decoder::TextDecoder,
    parallel::ParallelKernels,
    text::encoder::TextEncoder,
};

/// Text encoder and text decoder for question answering.
#[derive(Debug)]
pub(crate) struct CpuQuestionAnswering {
    pub(crate) questions: CpuTextEncoder,
    pub(crate) decoder: CpuTextDecoder,
}

impl CpuQuestionAnswering {
    /// Creates networks that share the weights of LibTorch's, and compute with `kernels`.
    ///
    /// Returns `None` if the layers do not use the native kernels.
    pub(crate) fn new(
        questions: &TextEncoder,
        decoder: &TextDecoder,
        config: &BlipConfig,
        kernels: &ParallelKernels,
    ) -> Option<Self> {
        Some(Self {
            questions: CpuTextEncoder::new(questions, config, kernels)?,
            decoder: CpuTextDecoder::new(decoder, config, kernels)?,
        })
    }
}

/// Returns the kernels that compute the texts of a model. Those of a small model have one thread.
pub(crate) fn text_kernels(config: &BlipConfig, kernels: &ParallelKernels) -> ParallelKernels {
    match config.vision.is_small() {
        true => kernels.on_one_thread(),
        false => kernels.clone(),
    }
}
