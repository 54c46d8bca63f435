//! The text encoder on LibTorch and its layers, which the text decoder shares.

pub(crate) mod encoder;
pub(crate) mod attention_weights;
pub(crate) mod encoder_states;
pub(crate) mod joined_projection;
pub(crate) mod layer;
pub(crate) mod cross_attention;
pub(crate) mod absorbed_projection;
mod native_attention;
pub(crate) mod hypotheses;
pub(crate) mod image_states;
pub(crate) mod padded_batch;
pub(crate) mod self_attention_cache;
