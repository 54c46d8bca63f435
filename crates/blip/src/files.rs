//! Where a checkpoint's files come from: a folder in Hugging Face's layout, or the binary itself.

use std::{borrow::Cow, fs, io, path::PathBuf};

use crate::{error::LoadError, mapped::MappedFile};

/// The files of one checkpoint.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
    /// Files that are part of the program: name and content.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// The bytes of a weights file, in memory or mapped.
#[derive(Debug)]
pub(crate) enum WeightBytes {
    Embedded(&'static [u8]),
    Mapped(MappedFile),
}

impl WeightBytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Embedded(bytes) => bytes,
            Self::Mapped(file) => file.as_slice(),
        }
    }

    /// Says that `range` was copied and need not stay in memory.
    pub(crate) fn release(&self, range: std::ops::Range<usize>) {
        if let Self::Mapped(file) = self {
            file.release(range);
        }
    }
}

impl ModelFiles {
    /// # Errors
    /// [`LoadError::NoFolder`] if the folder is not there.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Folder(folder) if !folder.is_dir() => Err(LoadError::NoFolder(folder.clone())),
            _ => Ok(()),
        }
    }

    /// A small file's content, or `None` if the checkpoint has no such file.
    ///
    /// # Errors
    /// [`LoadError::Read`] if it is there and cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
            Self::Folder(folder) => match fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(LoadError::Read { file: name.to_owned(), source }),
            },
        }
    }

    /// Like [`Self::read`], for a file that every checkpoint must have.
    pub(crate) fn require(&self, name: &'static str) -> Result<Cow<'static, [u8]>, LoadError> {
        self.read(name)?.ok_or(LoadError::MissingFile(name))
    }

    /// A weights file, mapped where it is a file.
    pub(crate) fn weights(&self, name: &str) -> Result<Option<WeightBytes>, LoadError> {
        match self {
            Self::Embedded(files) => Ok(files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, bytes)| WeightBytes::Embedded(bytes))),
            Self::Folder(folder) => match MappedFile::open(&folder.join(name)) {
                Ok(file) => Ok(Some(WeightBytes::Mapped(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(LoadError::Read { file: name.to_owned(), source }),
            },
        }
    }
}
