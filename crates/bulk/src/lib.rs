//! Processes files of records in order: one output line for each input line, resumable at any
//! point.
//!
//! The crate knows no protocol. A client of a server implements [`Task`].
//!
//! A batch passes through these modules: [`Input`] reads records, `grouping` groups adjacent
//! records, [`run`] passes the groups to the [`Task`], and [`Output`] writes the results in the
//! order of the input. [`retry_failed`] repeats this for the failed lines of a previous output.
//! [`run_shards`] does the same for the samples of a data set in tar or Parquet files, which
//! `storage` reads and writes as files or as objects of a store.
//!
//! Memory is bounded for files of any size. The reader blocks while its buffer is full, at most
//! [`BulkConfig::max_in_flight`] groups are in flight, and a result waits only for groups before
//! it. The exception is a Parquet file: the results of a row group are in memory until it ends.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod merge;
mod retry_failed;
mod shards;
mod run;
mod attempts;
mod grouping;
mod previous_output;
mod progress;
mod input;
mod output;
mod task;
mod part;
mod record_reader;
mod record;
mod format;
mod storage;

pub use format::Format;
pub use input::Input;
pub use merge::{MergeInput, MergeSummary, MergedShards, merge_records, merge_shards};
pub use output::{ExistingFile, Output, OutputError, ResumePoint};
pub use part::Part;
pub use progress::Progress;
pub use record::{Defaults, Fields, Record};
pub use retry_failed::{OutputFile, retry_failed};
pub use run::{BulkConfig, BulkError, RunSummary, Sink, process_records, run};
pub use shards::{
    ResultColumn, ShardColumns, ShardFiles, ShardOptions, ShardSummary, TextColumn, ValueType, existing,
    is_shard_input, run_shards, shard_results,
};
pub use storage::{Location, open_stored, read_stored};
pub use task::{RecordResult, Task};
