//! Shards of WebDataset: tar files.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod retry;
mod writer;
mod reader;
mod sample;
mod result_walk;
mod walk;

pub(super) use reader::read_samples;
pub(super) use result_walk::walk_results;
pub(super) use retry::{read_results, read_states};
pub(super) use writer::write_samples;
