//! The BLIP model for visual question answering, on LibTorch.
//!
//! [`Checkpoint::open`] reads a folder in Hugging Face's layout, [`Model::load`] brings its weights to a device, and
//! [`Model::run`] answers a batch of questions about a set of images. Answers equal those of the reference,
//! `BlipForQuestionAnswering.generate` of `transformers`, for each question asked alone.

mod answer_decoder;
mod answer_loop;
mod attention;
mod batch;
mod checkpoint;
mod config;
mod cross_attention;
mod decode_buffers;
mod decoder_past;
mod device;
mod device_graphs;
mod error;
mod feature_cache;
mod files;
mod fold;
mod layers;
mod mapped;
mod model;
pub mod preprocess;
mod question_encoder;
mod stopwatch;
mod text_embeddings;
mod text_layer;
mod tokenizer;
mod upload;
mod vision;
mod weights;

pub use batch::{ImageInput, QuestionInput, RowAnswer, RowError, RowSink};
pub use checkpoint::Checkpoint;
pub use config::{BlipConfig, GenerationConfig, TextConfig, VisionConfig};
pub use device::{ChosenDevice, DeviceError, DeviceRequest, Dtype, open_device};
pub use error::{LoadError, ModelError};
pub use feature_cache::ImageKey;
pub use files::ModelFiles;
pub use model::{Model, ModelOptions};
pub use preprocess::{Pixels, Preprocessor, RgbView};
pub use tokenizer::{TokenizeError, Tokenizer};
pub use weights::Weights;
