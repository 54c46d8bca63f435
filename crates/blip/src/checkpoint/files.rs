//! Where a checkpoint's files come from: a folder in Hugging Face's layout, a file of weights, or the binary itself.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{checkpoint::mmap::MappedFile, error::LoadError};

/// What every checkpoint must have beside its weights.
pub(crate) const NEEDED: [&str; 2] = ["config.json", "preprocessor_config.json"];
/// Of these one is enough.
pub(crate) const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.txt"];
/// What a checkpoint may have.
pub(crate) const OPTIONAL: [&str; 3] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"];

/// The files of one checkpoint.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
    /// One file of weights, such as a `.pth` of the original repository, with all the other files beside it.
    File(PathBuf),
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
    /// [`LoadError::NoFolder`] and [`LoadError::NoFile`] if it is not there, [`LoadError::NothingBeside`] if a file of
    /// weights is alone.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Folder(folder) if !folder.is_dir() => Err(LoadError::NoFolder(folder.clone())),
            Self::Folder(_) => Ok(()),
            Self::File(file) if !file.is_file() => Err(LoadError::NoFile(file.clone())),
            Self::File(file) => {
                let missing = |name: &&str| !file.with_file_name(name).exists();
                let mut lacks: Vec<&str> = NEEDED.into_iter().filter(missing).collect();
                if TOKENIZERS.iter().all(missing) {
                    lacks.push("tokenizer.json or vocab.txt");
                }
                if lacks.is_empty() {
                    return Ok(());
                }
                Err(LoadError::NothingBeside { file: file.clone(), missing: lacks.join(", ") })
            }
        }
    }

    /// The name of the one file that has the weights, if it was named.
    pub(crate) fn one_file(&self) -> Option<&str> {
        match self {
            Self::File(file) => file.file_name()?.to_str(),
            Self::Folder(_) | Self::Embedded(_) => None,
        }
    }

    /// Where a file of this name would be on disk.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.folder().map(|folder| folder.join(name))
    }

    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::File(file) => Some(file.parent().unwrap_or(Path::new(""))),
            Self::Embedded(_) => None,
        }
    }

    /// A small file's content, or `None` if the checkpoint has no such file.
    ///
    /// # Errors
    /// [`LoadError::Read`] if it is there and cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        let Some(path) = self.path(name) else { return Ok(self.embedded(name).map(Cow::Borrowed)) };
        match fs::read(path) {
            Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LoadError::Read { file: name.to_owned(), source }),
        }
    }

    /// Like [`Self::read`], for a file that every checkpoint must have.
    pub(crate) fn require(&self, name: &'static str) -> Result<Cow<'static, [u8]>, LoadError> {
        self.read(name)?.ok_or(LoadError::MissingFile(name))
    }

    /// A safetensors file, mapped where it is a file.
    pub(crate) fn weights(&self, name: &str) -> Result<Option<WeightBytes>, LoadError> {
        let Some(path) = self.path(name) else { return Ok(self.embedded(name).map(WeightBytes::Embedded)) };
        match MappedFile::open(&path) {
            Ok(file) => Ok(Some(WeightBytes::Mapped(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LoadError::Read { file: name.to_owned(), source }),
        }
    }

    fn embedded(&self, name: &str) -> Option<&'static [u8]> {
        let Self::Embedded(files) = self else { return None };
        files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_weights_that_is_alone_is_told_what_must_be_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model_base.pth");
        let message = |file: &Path| ModelFiles::File(file.to_owned()).check().unwrap_err().to_string();
        assert_eq!(message(&file), format!("model file {} does not exist", file.display()));
        fs::write(&file, "").unwrap();
        let all = "config.json, preprocessor_config.json, tokenizer.json or vocab.txt";
        let path = file.display();
        assert_eq!(message(&file), format!("{path} holds weights alone: {all} must be beside it"));
        for name in ["config.json", "vocab.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(
            message(&file),
            format!("{path} holds weights alone: preprocessor_config.json must be beside it")
        );
        fs::write(folder.path().join("preprocessor_config.json"), "").unwrap();
        assert!(ModelFiles::File(file).check().is_ok());
    }

    #[test]
    fn a_file_in_the_working_folder_has_the_others_beside_it() {
        let files = ModelFiles::File("model_base.pth".into());
        assert_eq!(files.path("config.json").unwrap(), Path::new("config.json"));
        assert_eq!(files.one_file(), Some("model_base.pth"));
    }
}
