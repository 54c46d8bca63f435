//! Caches of the server: computed answers, and decoded images at the model's input size.
//!
//! The engines hold the caches of image features and of cross-attention keys and values (see
//! `blip`). This module holds only their metrics, beside those of its caches.

pub mod answers;
pub mod pixels;
pub mod metrics;
