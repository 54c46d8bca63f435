//! The BLIP models on LibTorch and on the kernels of `cpu_kernels`: visual question answering,
//! captioning, image-text retrieval.
//!
//! Open a [`Checkpoint`], load a [`Model`], call [`Model::run`] with the images and rows of a
//! batch. Results equal those of the reference implementation in `transformers` for each row
//! computed alone. See [`Architecture`] for the reference class of each task, and
//! `docs/design/model.md`.
//!
//! A batch passes through these modules in order:
//!
//! 1. `model` checks the images and rows. `batch::layout` groups them by image.
//! 2. `encode` returns the features of the images: from `cache`, or from the encoder in `vision` or
//!    `cpu`.
//! 3. `heads` runs the architecture. It encodes the texts with `text` or `cpu`.
//! 4. `generation` and `ranking` run the text decoder, which is in `decoder` or `cpu`.
//! 5. `explanation` computes where the model looked, for the rows that request it.
//! 6. Each row goes to the caller's [`RowSink`] as soon as it is complete.
//!
//! Modules are listed from top to bottom. Each uses only modules below it.

mod model;
mod heads;
mod explanation;
mod ranking;
mod generation;
mod encode;
mod cuda_graphs;
mod cpu;
mod decoder;
mod vision;
mod text;
mod cache;
mod layers;
mod parallel;
mod convert;
mod options;
mod device;
mod checkpoint;
mod batch;
pub mod preprocess;
mod error;
mod dtype;

#[cfg(test)]
mod tests;

pub use batch::attention_map::AttentionMap;
pub use batch::rows::{ImageDigest, ImageInput, RowAnswer, RowError, RowInput, RowSink};
pub use batch::task::{
    Generation, MatchScores, RankedCandidate, Ranking, RowOutput, RowTask, Sampling, Sequence,
};
pub use cache::shared::SharedImageCache;
pub use checkpoint::config::{
    Architecture, BlipConfig, generation::GenerationConfig, text::TextConfig, vision::VisionConfig,
};
pub use checkpoint::conventions::Conventions;
pub use checkpoint::files::ModelFiles;
pub use checkpoint::tokenizer::{TokenizeError, Tokenizer};
pub use checkpoint::weights::Weights;
pub use checkpoint::{Checkpoint, CheckpointOptions};
pub use convert::{WrittenFile, convert, error::ConvertError};
pub use device::kernel_backend::{CpuKernels, CudaGelu, CudaKernels};
pub use device::selection::{ChosenDevice, DeviceError, DeviceRequest, open_device};
pub use dtype::{Dtype, PartDtype};
pub use error::{LoadError, ModelError};
pub use explanation::explainer::ATTENTION_MAP_STEPS;
pub use model::Model;
pub use options::LoadOptions;
pub use preprocess::{Pixels, Preprocessor, RgbView};
