//! Caches of image features and of cross-attention keys and values, by image digest.

pub(crate) mod cross_attention;
pub(crate) mod features;
pub(crate) mod shared;
pub(crate) mod slot_pool;
