//! Opens Parquet files.

use std::{fs::File, io, path::Path, sync::Arc};

use parquet::{
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
};

/// A Parquet file whose metadata is read.
pub(super) struct InputFile {
    pub(super) file: File,
    pub(super) metadata: Arc<ParquetMetaData>,
}

impl InputFile {
    /// Opens a file. `page_index` says whether the positions of pages are read, too.
    ///
    /// # Errors
    /// The file cannot be read, or is no complete Parquet file.
    pub(super) fn open(path: &Path, page_index: PageIndexPolicy) -> io::Result<Self> {
        let file = File::open(path)?;
        let reader = ParquetMetaDataReader::new().with_page_index_policy(page_index);
        let metadata = reader.parse_and_finish(&file).map_err(|error| broken("", error))?;
        Ok(Self { file, metadata: Arc::new(metadata) })
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
