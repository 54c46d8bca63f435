//! Shards of `datasets` and other programs: Parquet files.
//!
//! The writer copies the columns of the input as they are, without decoding them. So columns of any
//! type, encoding and compression stay equal, and a row group of the output has the rows of that of
//! the input. The reader decodes the columns that records need, some rows at a time.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod writer;
mod reader;
mod result_reader;
mod layout;
mod result_rows;
mod record_columns;
mod input_file;
#[cfg(test)]
mod tests;

pub(super) use reader::read_rows;
pub(super) use result_reader::{read_results, read_states};
pub(super) use writer::write_rows;
