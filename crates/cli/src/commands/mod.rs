//! The subcommands, one file or folder each.

pub(crate) mod serve;
pub(crate) mod config;
pub(crate) mod health;
pub(crate) mod models;
pub(crate) mod download;
pub(crate) mod convert;
pub(crate) mod ask;
pub(crate) mod caption;
pub(crate) mod match_texts;
pub(crate) mod embed;
pub(crate) mod capfilt;
pub(crate) mod merge;
pub(crate) mod eval;
pub(crate) mod bench;
pub(crate) mod shell;
mod task_args;
mod record_file;
mod interactive;
