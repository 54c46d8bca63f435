//! Caches of image features and of cross-attention keys and values, by image digest.

pub(crate) mod batch_key_values;
pub(crate) mod batch_features;
pub(crate) mod cross_attention;
pub(crate) mod features;
pub(crate) mod shared;
pub(crate) mod key_value_shape;
pub(crate) mod float_buffer;
pub(crate) mod feature_buffer;
pub(crate) mod slot_pool;

#[cfg(test)]
mod tests;
