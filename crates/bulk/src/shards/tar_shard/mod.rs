//! Shards of WebDataset: tar files.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod results;
mod writer;
mod reader;
mod sample;
mod walk;

pub(super) use reader::read_samples;
pub use results::shard_results;
pub(super) use writer::write_samples;
