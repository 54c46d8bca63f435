//! Puts the outputs of several machines together.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod merge_records;
mod merge_shards;

pub use merge_records::{MergeInput, MergeSummary, merge_records};
pub use merge_shards::{MergedShards, merge_shards};
