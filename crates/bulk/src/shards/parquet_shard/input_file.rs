//! Opens Parquet files.

use std::io;

use parquet::{
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData},
};

use crate::storage::{Location, StoredFile};

/// A Parquet file whose metadata is read.
pub(super) struct InputFile {
    pub(super) file: StoredFile,
    pub(super) metadata: ParquetMetaData,
}

impl InputFile {
    /// Opens a file. The index of its pages is read, too, so that the reader and the writer reject
    /// one that is broken.
    ///
    /// # Errors
    /// The file cannot be read, or is no complete Parquet file.
    pub(super) fn open(location: &Location) -> io::Result<Self> {
        let file = StoredFile::open_regular(location)?;
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = reader.parse_and_finish(&file).map_err(|error| broken("", error))?;
        for (index, group) in metadata.row_groups().iter().enumerate() {
            check_rows(group).map_err(|error| broken(&format!(" in row group {index}"), error))?;
        }
        Ok(Self { file, metadata })
    }
}

/// Checks that a row group without rows has no values. The reader and the writer skip it.
fn check_rows(group: &RowGroupMetaData) -> Result<(), ParquetError> {
    let is_empty = || group.columns().iter().all(|column| column.num_values() == 0);
    match group.num_rows() {
        1.. => Ok(()),
        0 if is_empty() => Ok(()),
        0 => Err(ParquetError::General("the metadata has values without rows".to_owned())),
        rows => Err(ParquetError::General(format!("the metadata has {rows} rows"))),
    }
}

/// Returns the error of a shard that is no Parquet file. `place` is empty, or begins with a space.
pub(super) fn broken(place: &str, error: ParquetError) -> io::Error {
    let error = to_io(error);
    io::Error::new(error.kind(), format!("the Parquet file is broken{place}: {error}"))
}

/// Returns the error of the operating system, if it is the cause.
pub(super) fn to_io(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        ParquetError::General(message) | ParquetError::EOF(message) => io::Error::other(message),
        error => io::Error::other(error),
    }
}
