//! Processes data sets in the WebDataset format: tar files, called shards.
//!
//! A sample is a run of adjacent members whose names differ only in their extension, such as
//! `000017.jpg` and `000017.txt`. The output shard has all members of the input shard, in their
//! order, and after each sample a member with its result.
//!
//! Two threads read each shard: the reader turns samples into records, and the writer copies the
//! members and adds the results. So the members of a sample are not in memory until its result is
//! written. An output shard has its name only when it is complete. That is why a run can be
//! continued after any end: it processes the shards that have no output. [`shard_results`] reads
//! the results of output shards.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod run;
mod results;
mod writer;
mod reader;
mod job;
mod sample;
mod walk;
mod pattern;

pub use job::ShardFiles;
pub use pattern::is_shard_input;
pub use results::shard_results;
pub use run::{ShardOptions, ShardSummary, run_shards};
