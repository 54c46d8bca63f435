//! Image features for a batch: from a cache, or from the vision encoder that the model uses.

pub(crate) mod encoded_batch;
pub(crate) mod image_cache;
pub(crate) mod image_encoder;
