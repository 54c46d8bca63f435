//! Shards of WebDataset: tar files.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod results;
mod retry;
mod writer;
mod reader;
mod sample;
mod result_walk;
mod walk;

pub(super) use reader::read_samples;
pub use results::shard_results;
pub(super) use retry::{read_results, read_states};
pub(super) use writer::write_samples;
