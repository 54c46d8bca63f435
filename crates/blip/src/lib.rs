//! The BLIP models, on LibTorch: visual question answering, captioning, image-text matching.
//!
//! [`Checkpoint::open`] reads a folder in Hugging Face's layout, [`Model::load`] brings its weights to a device, and
//! [`Model::run`] does what the rows of a batch want with a set of images. What comes out equals what the reference's classes
//! in `transformers` compute for each row alone; see [`Architecture`] for which class does what.

mod answer_decoder;
mod answer_loop;
mod attention;
mod batch;
mod beam_search;
mod candidate_scores;
mod candidate_trie;
mod captioning;
mod checkpoint;
mod config;
mod convert;
mod cross_attention;
mod decode_buffers;
mod decoder_memory;
mod decoder_past;
mod decoder_state;
mod decoding_plan;
mod device;
mod device_graphs;
mod encoded_batch;
mod error;
mod feature_cache;
mod files;
mod flavour;
mod fold;
mod image_memory;
mod int8_linear;
mod key_value_cache;
mod lanes;
mod layers;
mod logits_processors;
mod logits_warpers;
mod mapped;
mod model;
mod onednn;
mod parameters;
mod position_embeddings;
pub mod preprocess;
mod question_answering;
mod question_encoder;
mod ranking;
mod retrieval;
mod sampling;
mod search_loop;
mod search_row;
mod search_step;
mod stopwatch;
mod target_losses;
mod task;
mod task_bounds;
mod text_cleanup;
mod text_embeddings;
mod text_layer;
mod tokenizer;
mod upload;
mod vision;
mod weights;

pub use batch::{ImageInput, RowAnswer, RowError, RowInput, RowSink};
pub use checkpoint::{Checkpoint, CheckpointOptions};
pub use config::{Architecture, BlipConfig, GenerationConfig, TextConfig, VisionConfig};
pub use convert::{ConvertError, WrittenFile, convert};
pub use device::{ChosenDevice, DeviceError, DeviceRequest, Dtype, VisionDtype, open_device};
pub use error::{LoadError, ModelError};
pub use feature_cache::ImageKey;
pub use files::ModelFiles;
pub use flavour::Flavour;
pub use model::{Model, ModelOptions};
pub use preprocess::{Pixels, Preprocessor, RgbView};
pub use task::{Generation, MatchScores, RankedCandidate, Ranking, RowOutput, RowTask, Sampling, Sequence};
pub use tokenizer::{TokenizeError, Tokenizer};
pub use weights::Weights;
