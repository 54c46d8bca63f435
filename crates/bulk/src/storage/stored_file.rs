//! Files and objects that are read.

use std::{
    fs::File,
    io::{self, Read},
};

use crate::storage::location::Location;
#[cfg(feature = "object_store")]
use crate::storage::object::Object;

/// A file or an object that is open for reading at any place.
#[derive(Debug)]
pub(crate) enum StoredFile {
    /// A file.
    File(File),
    /// An object.
    #[cfg(feature = "object_store")]
    Object(Object),
}

impl StoredFile {
    /// Opens a file, or finds an object.
    ///
    /// # Errors
    /// It cannot be read. The error does not name it.
    pub(crate) fn open(location: &Location) -> io::Result<Self> {
        match location {
            Location::Path(path) => File::open(path).map(Self::File),
            #[cfg(feature = "object_store")]
            Location::Url(url) => Object::open(url).map(Self::Object),
            #[cfg(not(feature = "object_store"))]
            Location::Url(url) => url.unsupported(),
        }
    }

    /// Opens a regular file, or finds an object. A pipe that nobody writes is not waited for.
    ///
    /// # Errors
    /// It cannot be read, or is not a regular file. The error does not name it.
    pub(crate) fn open_regular(location: &Location) -> io::Result<Self> {
        match location {
            Location::Path(path) => regular_file::open(path).map(Self::File),
            Location::Url(_) => Self::open(location),
        }
    }

    /// Returns the length in bytes.
    pub(crate) fn length(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            #[cfg(feature = "object_store")]
            Self::Object(object) => Ok(object.length()),
        }
    }

    /// Returns another handle of the same file.
    #[cfg(feature = "parquet")]
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::File(file) => file.try_clone().map(Self::File),
            #[cfg(feature = "object_store")]
            Self::Object(object) => Ok(Self::Object(object.clone())),
        }
    }

    /// Returns a reader of the whole content, from its beginning.
    pub(crate) fn into_stream(self) -> io::Result<FileStream> {
        let length = self.length()?;
        let inner: Box<dyn Read + Send> = match self {
            Self::File(file) => Box::new(file),
            #[cfg(feature = "object_store")]
            Self::Object(object) => Box::new(object.into_stream()),
        };
        Ok(FileStream { inner, position: 0, length })
    }
}

/// Returns a reader of a file or of an object.
///
/// # Errors
/// It cannot be read. The error does not name it.
pub fn open_stored(location: &Location) -> io::Result<impl Read + Send + use<>> {
    StoredFile::open(location)?.into_stream()
}

/// Returns the content of a file or of an object, which has at most `limit` bytes.
///
/// # Errors
/// It cannot be read, or is larger. The error does not name it.
pub fn read_stored(location: &Location, limit: u64) -> io::Result<Vec<u8>> {
    let file = StoredFile::open(location)?;
    let length = file.length()?;
    if length > limit {
        let message = format!("file too large: {length} bytes, {limit} allowed");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut content = Vec::new();
    file.into_stream()?.take(limit).read_to_end(&mut content)?;
    Ok(content)
}

/// A reader of a whole file.
pub(crate) struct FileStream {
    inner: Box<dyn Read + Send>,
    position: u64,
    length: u64,
}

impl FileStream {
    /// Returns the number of bytes that were read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the length of the file when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

impl Read for FileStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(feature = "parquet")]
mod chunks {
    use bytes::Bytes;
    use parquet::{
        errors::Result,
        file::reader::{ChunkReader, Length},
    };

    use super::{Read, StoredFile};

    impl Length for StoredFile {
        fn len(&self) -> u64 {
            // A file whose length is not known has no footer, which is an error.
            self.length().unwrap_or_default()
        }
    }

    impl ChunkReader for StoredFile {
        type T = Box<dyn Read + Send>;

        fn get_read(&self, start: u64) -> Result<Self::T> {
            Ok(match self {
                Self::File(file) => Box::new(file.get_read(start)?),
                #[cfg(feature = "object_store")]
                Self::Object(object) => Box::new(object.read_from(start)),
            })
        }

        fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
            match self {
                Self::File(file) => file.get_bytes(start, length),
                #[cfg(feature = "object_store")]
                Self::Object(object) => Ok(object.bytes(start, length)?),
            }
        }
    }
}
