//! Reads the column with the results of an output shard.

use std::{io, sync::Arc};

use arrow_array::{Array, ArrayRef, StructArray, cast::AsArray, types::Float32Type};
use arrow_schema::DataType;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
            ParquetRecordBatchReaderBuilder,
        },
    },
    errors::ParquetError,
};
use serde_json::Value;

use crate::{
    record::Fields,
    shards::{
        columns::ResultColumn,
        parquet_shard::{
            input_file::{InputFile, broken},
            result_rows::{ERROR, result_schema},
        },
    },
    storage::Location,
};

/// Number of results that are decoded at a time.
const BATCH_ROWS: usize = 256;

/// Calls `add` for each row of an output with its number, and whether it has failed: its result is
/// an error, or missing.
///
/// # Errors
/// See [`read_results`].
pub(in crate::shards) fn read_states(
    output: &Location,
    column: (&str, &[ResultColumn]),
    add: &mut impl FnMut(&str, bool),
) -> io::Result<()> {
    for result in read_results(output, column)? {
        let (key, fields) = result?;
        add(&key, fields.is_empty() || fields.contains_key(ERROR));
    }
    Ok(())
}

/// Returns the results in an output, each with the number of its row.
///
/// # Errors
/// The file cannot be read, or has no column `name` with results in `columns`.
pub(in crate::shards) fn read_results(
    output: &Location,
    (name, columns): (&str, &[ResultColumn]),
) -> io::Result<impl Iterator<Item = io::Result<(String, Fields)>> + use<>> {
    let InputFile { file, metadata } = InputFile::open(output)?;
    let rows = metadata.file_metadata().num_rows().unsigned_abs();
    let metadata = Arc::new(metadata.into_builder().set_page_index(None).build());
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::try_new(metadata, options).map_err(|error| broken("", error))?;
    let (root, field) = metadata
        .schema()
        .column_with_name(name)
        .ok_or_else(|| io::Error::other(format!("no column of this name: {name}")))?;
    let expected = result_schema(name, columns);
    let expected = expected.fields().first().map(|field| field.data_type());
    let found = names(Some(field.data_type()));
    if found != names(expected) {
        let reason = format!("column {name} has the fields {found}: expected {}", names(expected));
        return Err(io::Error::other(reason));
    }
    let mask = ProjectionMask::roots(metadata.parquet_schema(), [root]);
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| broken("", error))?;
    let results = ResultReader { batches, batch: None, row: 0, rows };
    Ok(results.enumerate().map(|(row, result)| result.map(|fields| (row.to_string(), fields))))
}

/// Returns the names of the fields of a struct, or the type of other columns.
fn names(data_type: Option<&DataType>) -> String {
    match data_type {
        Some(DataType::Struct(fields)) => {
            fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
        }
        other => other.map(DataType::to_string).unwrap_or_default(),
    }
}

/// An iterator over results.
struct ResultReader {
    batches: ParquetRecordBatchReader,
    /// The results of some rows, and the position of the next one.
    batch: Option<(StructArray, usize)>,
    row: u64,
    /// The number of rows in the metadata.
    rows: u64,
}

impl Iterator for ResultReader {
    type Item = io::Result<Fields>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((results, at)) = &mut self.batch
                && *at < results.len()
            {
                *at += 1;
                self.row += 1;
                return Some(Ok(fields_at(results, *at - 1)));
            }
            let row = self.row;
            let broken = |error| Some(Err(broken(&format!(" after row {row}"), error)));
            match self.batches.next() {
                Some(Ok(batch)) => {
                    let results = batch.columns().first().and_then(|column| column.as_struct_opt().cloned());
                    self.batch = results.map(|results| (results, 0));
                }
                Some(Err(error)) => {
                    self.rows = self.row;
                    return broken(error.into());
                }
                None if self.row != self.rows => {
                    let reason = format!("the metadata has {} rows", self.rows);
                    self.rows = self.row;
                    return broken(ParquetError::General(reason));
                }
                None => return None,
            }
        }
    }
}

/// Returns the fields of a struct that have a value.
fn fields_at(results: &StructArray, row: usize) -> Fields {
    if results.is_null(row) {
        return Fields::new();
    }
    let names = results.fields().iter().map(|field| field.name());
    let values =
        names.zip(results.columns()).filter_map(|(name, column)| Some((name, value_at(column, row)?)));
    values.map(|(name, value)| (name.clone(), value)).collect()
}

/// Returns a value of a type that results have, or `None` for null and other types.
fn value_at(column: &ArrayRef, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Utf8 => Value::from(column.as_string_opt::<i32>()?.value(row)),
        DataType::Boolean => Value::from(column.as_boolean_opt()?.value(row)),
        DataType::Float32 => Value::from(column.as_primitive_opt::<Float32Type>()?.value(row)),
        DataType::List(_) => {
            let items = column.as_list_opt::<i32>()?.value(row);
            (0..items.len()).map(|at| value_at(&items, at).unwrap_or_default()).collect()
        }
        DataType::Struct(_) => Value::Object(fields_at(column.as_struct_opt()?, row)),
        _ => return None,
    })
}
