//! Preprocessing: the bytes and texts of validated inputs become pixels and token ids.
//!
//! [`prepare_inputs`] runs over all inputs of a call. It fetches images by URL and has the
//! [`preparer`] decode, scale and tokenize on the CPU pool.

pub mod prepare_inputs;
pub mod fetch;
pub mod preparer;
pub(crate) mod fast_path;
pub mod errors;
pub mod decoding;
pub mod pool;
pub mod prepared;
pub mod candidate_files;
pub mod candidates;
