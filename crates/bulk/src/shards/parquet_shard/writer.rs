//! Writes Parquet files: the columns of the input, and a column with the results.

use std::{
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::Compression,
    bloom_filter::Sbbf,
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::{
        metadata::ParquetMetaData,
        properties::WriterProperties,
        reader::ChunkReader,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
};

use crate::{
    record::Fields,
    shards::{
        columns::ResultColumn,
        exchange::ShardEnd,
        parquet_shard::{
            input_file::{InputFile, broken, to_io},
            layout::Layout,
            result_rows::ResultRows,
        },
        stored_results::{SampleOutcome, ShardResults},
        write_errors::WriteErrors,
    },
    storage::Location,
};

/// Number of results that are encoded at a time.
const ENCODED_ROWS: usize = 1024;

/// Writes the columns of `input` into `file`, and the results of its rows as the column `name`.
///
/// The results of a row group are in memory until it ends, encoded and compressed.
///
/// # Errors
/// The output cannot be written.
pub(in crate::shards) fn write_rows(
    input: &Location,
    file: impl Write + Send,
    (name, columns): (&str, &[ResultColumn]),
    mut results: ShardResults<'_, Fields>,
) -> io::Result<ShardEnd> {
    let input = match InputFile::open(input) {
        Ok(input) => input,
        Err(error) => return Ok(ShardEnd::Unreadable(error)),
    };
    let layout = match Layout::new(input.metadata.file_metadata(), name, columns) {
        Ok(layout) => layout,
        Err(error) => return Ok(ShardEnd::Unreadable(to_io(error))),
    };
    let properties = WriterProperties::builder().set_key_value_metadata(layout.key_values.clone()).build();
    let output = WriteErrors::new(file);
    let mut writer =
        SerializedFileWriter::new(output, Arc::clone(&layout.schema), Arc::new(properties)).map_err(to_io)?;
    let copied = copy_row_groups(&input, &layout, columns, &mut writer, &mut results);
    let copied = copied.and_then(|is_complete| {
        let ended = if is_complete { results.end() } else { Ok(()) };
        ended.map(|()| is_complete)
    });
    match copied {
        Err(error) if writer.inner().has_failed() => Err(error),
        Err(error) => Ok(ShardEnd::Unreadable(error)),
        Ok(false) => Ok(ShardEnd::Stopped),
        Ok(true) => writer.finish().map(|_| ShardEnd::Complete).map_err(to_io),
    }
}

/// Writes all row groups. Returns false if the run was stopped.
fn copy_row_groups(
    input: &InputFile,
    layout: &Layout,
    columns: &[ResultColumn],
    writer: &mut SerializedFileWriter<WriteErrors<impl Write + Send>>,
    results: &mut ShardResults<'_, Fields>,
) -> io::Result<bool> {
    let mut row = 0_u64;
    for (index, group) in input.metadata.row_groups().iter().enumerate() {
        let mut encoder = ResultEncoder::new(layout, columns).map_err(to_io)?;
        for _ in 0..group.num_rows() {
            let result = match results.next(&row.to_string())? {
                Some(SampleOutcome::Earlier(fields) | SampleOutcome::New(fields)) => fields,
                None => return Ok(false),
            };
            encoder.append(result)?;
            row += 1;
        }
        // A row group without rows has no columns to copy.
        let Some(encoded) = encoder.finish()? else { continue };
        let written = write_row_group(index, input, layout, writer, &encoded);
        written.map_err(|error| match writer.inner().has_failed() {
            // The input is not the cause.
            true => to_io(error),
            false => broken(&format!(" in row group {index}"), error),
        })?;
    }
    Ok(true)
}

/// Writes a row group of the input with its results.
fn write_row_group(
    index: usize,
    input: &InputFile,
    layout: &Layout,
    writer: &mut SerializedFileWriter<impl Write + Send>,
    (bytes, encoded): &(Bytes, ParquetMetaData),
) -> Result<(), ParquetError> {
    let mut output = writer.next_row_group()?;
    for leaf in &layout.copied {
        append(&mut output, &input.file, &input.metadata, (index, *leaf))?;
    }
    for leaf in 0..encoded.file_metadata().schema_descr().num_columns() {
        append(&mut output, bytes, encoded, (0, leaf))?;
    }
    output.close()?;
    Ok(())
}

/// Copies a leaf of a row group as it is, with its indexes.
fn append<R: ChunkReader>(
    output: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    input: &R,
    metadata: &ParquetMetaData,
    (group, leaf): (usize, usize),
) -> Result<(), ParquetError> {
    let rows = metadata.row_group(group);
    let column = rows.column(leaf);
    let page_index = metadata.page_index();
    let close = ColumnCloseResult {
        bytes_written: column.compressed_size().unsigned_abs(),
        rows_written: rows.num_rows().unsigned_abs(),
        metadata: column.clone(),
        bloom_filter: Sbbf::read_from_column_chunk(column, input)?,
        column_index: page_index.and_then(|index| index.column_index(group, leaf)).cloned(),
        offset_index: page_index.and_then(|index| index.offset_index(group, leaf)).cloned(),
    };
    output.append_column(input, close)
}

/// Encodes the results of a row group, as a Parquet file in memory.
struct ResultEncoder {
    rows: ResultRows,
    writer: ArrowWriter<Vec<u8>>,
}

impl ResultEncoder {
    fn new(layout: &Layout, columns: &[ResultColumn]) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(None)
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let schema = Arc::clone(&layout.results);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)?;
        Ok(Self { rows: ResultRows::new(schema, columns), writer })
    }

    fn append(&mut self, result: Fields) -> io::Result<()> {
        self.rows.append(result);
        if self.rows.len() >= ENCODED_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.write(&self.rows.take()?).map_err(to_io)
    }

    /// Returns the file and its metadata, or `None` if it has no rows.
    fn finish(mut self) -> io::Result<Option<(Bytes, ParquetMetaData)>> {
        if self.rows.len() > 0 {
            self.flush()?;
        }
        let metadata = self.writer.finish().map_err(to_io)?;
        let bytes = Bytes::from(std::mem::take(self.writer.inner_mut()));
        Ok((metadata.num_row_groups() > 0).then_some((bytes, metadata)))
    }
}
