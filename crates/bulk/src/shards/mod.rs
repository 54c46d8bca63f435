//! Processes data sets in files, called shards: tar files of WebDataset, and Parquet files.
//!
//! A sample of a tar file is a run of adjacent members whose names differ only in their extension,
//! such as `000017.jpg` and `000017.txt`. The output shard has all members of the input shard, in
//! their order, and after each sample a member with its result.
//!
//! A sample of a Parquet file is a row. The output shard has all columns of the input shard, and a
//! column with the results.
//!
//! Two threads read each shard: the reader turns samples into records, and the writer copies the
//! shard and adds the results. So the content of a sample is not in memory until its result is
//! written. An output shard has its name only when it is complete. That is why a run can be
//! continued after any end: it processes the shards that have no output. A run that retries failed
//! samples also writes the output shards that have some again, with the other results as they are.
//! [`shard_results`] reads the results of output shards.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod run;
mod write_shard;
mod read_shards;
mod results;
#[cfg(feature = "parquet")]
mod parquet_shard;
mod tar_shard;
mod stored_results;
mod exchange;
mod columns;
mod catch_panic;
mod write_errors;
mod job;
mod pattern;
mod shard_format;

pub use columns::{ResultColumn, ShardColumns, TextColumn, ValueType};
pub use job::ShardFiles;
pub use pattern::{existing, is_shard_input};
pub(crate) use pattern::{expand, shards_of_folder};
pub use results::shard_results;
pub use run::{ShardOptions, ShardSummary, run_shards};
