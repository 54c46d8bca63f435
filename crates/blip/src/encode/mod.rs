//! Returns the image features of a batch: from a cache, or from the model's vision encoder.

pub(crate) mod encoded_batch;
pub(crate) mod image_cache;
pub(crate) mod image_encoder;
