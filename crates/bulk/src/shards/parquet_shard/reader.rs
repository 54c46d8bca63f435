//! Reads the rows of a Parquet file into records.

use std::{io, sync::Arc};

use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    errors::ParquetError,
};

use crate::{
    shards::{
        columns::ShardColumns,
        exchange::ShardRecords,
        parquet_shard::{
            input_file::{InputFile, broken, to_io},
            layout::Layout,
            record_columns::RecordColumns,
        },
    },
    storage::Location,
};

/// Number of rows that are decoded at a time. Their images are in memory.
const BATCH_ROWS: usize = 8;

/// Sends the record of each row, until the run ends.
///
/// # Errors
/// The file cannot be read, is no Parquet file from some row on, or lacks a column.
pub(in crate::shards) fn read_rows(
    input: &Location,
    result_name: &str,
    columns: &ShardColumns,
    records: &mut ShardRecords<'_>,
) -> io::Result<()> {
    let InputFile { file, metadata } = InputFile::open(input)?;
    let (bytes, rows) = (file.length()?, metadata.file_metadata().num_rows());
    // No record is processed for a file that the writer rejects.
    Layout::new(metadata.file_metadata(), result_name, &columns.results).map_err(to_io)?;
    // Decoding all rows needs no index.
    let metadata = Arc::new(metadata.into_builder().set_page_index(None).build());
    // The types of Parquet alone: fewer than those of Arrow, for the same values.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::try_new(metadata, options).map_err(|error| broken("", error))?;
    let columns = RecordColumns::find(metadata.schema(), columns).map_err(io::Error::other)?;
    let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.roots.iter().copied());
    let folder = input.folder();
    let mut row = 0_u64;
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let group_rows = group.num_rows().unsigned_abs();
        if group_rows == 0 {
            continue;
        }
        let end = row + group_rows;
        // In a shard that is retried, most row groups can have no failed sample.
        if !(row..end).any(|row| records.has(&row.to_string())) {
            row = end;
            continue;
        }
        let (file, metadata) = (file.try_clone()?, metadata.clone());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_projection(mask.clone())
            .with_row_groups(vec![index])
            .with_batch_size(BATCH_ROWS)
            .build();
        let mut batches = reader.map_err(|error| broken(&format!(" after row {row}"), error))?.peekable();
        while let Some(batch) = batches.next() {
            let batch = batch.map_err(|error| broken(&format!(" after row {row}"), error.into()))?;
            let batch_end = row + batch.num_rows() as u64;
            // With the last result, the writer completes the output. So the reader looks before.
            if batch_end > end || (batch_end == end && batches.peek().is_some()) {
                return Err(wrong_rows(index, group_rows, "more"));
            }
            for at in 0..batch.num_rows() {
                let fields = columns.record(&batch, at, &folder);
                let key = row.to_string();
                row += 1;
                if records.send(key, fields, share(bytes, row, rows)).is_break() {
                    return Ok(());
                }
            }
        }
        if row < end {
            return Err(wrong_rows(index, group_rows, &(row + group_rows - end).to_string()));
        }
    }
    Ok(())
}

/// Returns the error of a row group that does not have the rows of its metadata. Results would
/// belong to other rows.
fn wrong_rows(group: usize, rows: u64, found: &str) -> io::Error {
    let reason = format!("the metadata has {rows} rows, and the pages have {found}");
    broken(&format!(" in row group {group}"), ParquetError::General(reason))
}

/// Returns the bytes of the first rows, if all rows have the same size.
fn share(bytes: u64, row: u64, rows: i64) -> u64 {
    let share = u128::from(bytes) * u128::from(row) / u128::from(rows.unsigned_abs().max(1));
    u64::try_from(share).unwrap_or(bytes)
}
