//! The files of a checkpoint: a folder in Hugging Face's layout, a weight file with its folder, or
//! files inside the binary.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{checkpoint::mmap::MappedFile, error::LoadError};

/// Files that every checkpoint needs besides its weights.
pub(crate) const REQUIRED: [&str; 2] = ["config.json", "preprocessor_config.json"];
/// Files of which a checkpoint needs at least one.
pub(crate) const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.txt"];
/// Files that a checkpoint may have.
pub(crate) const OPTIONAL: [&str; 3] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"];

/// Source of the files of one checkpoint.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
    /// A weight file, such as a `.pth` of the original repository. The other files are in its
    /// folder.
    File(PathBuf),
    /// Files inside the binary, as names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// Bytes of a weight file, in memory or mapped.
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

    /// Releases the memory of `range`, which the caller has copied.
    pub(crate) fn release(&self, range: std::ops::Range<usize>) {
        if let Self::Mapped(file) = self {
            file.release(range);
        }
    }
}

impl ModelFiles {
    /// Checks that the folder or the weight file exists, and that no file is missing beside the
    /// latter.
    ///
    /// # Errors
    /// [`LoadError::NoFolder`] or [`LoadError::NoFile`] if the source is missing.
    /// [`LoadError::IncompleteFolder`] if the folder of a weight file lacks required files.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Folder(folder) if !folder.is_dir() => Err(LoadError::NoFolder(folder.clone())),
            Self::Folder(_) => Ok(()),
            Self::File(file) if !file.is_file() => Err(LoadError::NoFile(file.clone())),
            Self::File(file) => {
                let missing = |name: &&str| !file.with_file_name(name).exists();
                let mut absent: Vec<&str> = REQUIRED.into_iter().filter(missing).collect();
                if TOKENIZERS.iter().all(missing) {
                    absent.push("tokenizer.json or vocab.txt");
                }
                if absent.is_empty() {
                    return Ok(());
                }
                Err(LoadError::IncompleteFolder { file: file.clone(), missing: absent.join(", ") })
            }
        }
    }

    /// Returns the name of the weight file if the source names one.
    pub(crate) fn weight_file_name(&self) -> Option<&str> {
        match self {
            Self::File(file) => file.file_name()?.to_str(),
            Self::Folder(_) | Self::Embedded(_) => None,
        }
    }

    /// Returns the path of a file of this name, which may be missing. `None` for embedded files.
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

    /// Returns the content of a small file, or `None` if the checkpoint has no such file.
    ///
    /// # Errors
    /// [`LoadError::Read`] if the file exists but cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        let Some(path) = self.path(name) else { return Ok(self.embedded(name).map(Cow::Borrowed)) };
        match fs::read(path) {
            Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LoadError::Read { file: name.to_owned(), source }),
        }
    }

    /// Returns the content of a small file that every checkpoint needs.
    ///
    /// # Errors
    /// [`LoadError::MissingFile`] if it is missing, [`LoadError::Read`] if it cannot be read.
    pub(crate) fn require(&self, name: &'static str) -> Result<Cow<'static, [u8]>, LoadError> {
        self.read(name)?.ok_or(LoadError::MissingFile(name))
    }

    /// Returns the bytes of a safetensors file, or `None` if the checkpoint has no such file. A
    /// file on disk is mapped.
    ///
    /// # Errors
    /// [`LoadError::Read`] if the file exists but cannot be mapped.
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
    fn weight_file_alone_is_rejected_with_missing_file_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model_base.pth");
        let message = |file: &Path| ModelFiles::File(file.to_owned()).check().unwrap_err().to_string();
        assert_eq!(message(&file), format!("model file {} does not exist", file.display()));
        fs::write(&file, "").unwrap();
        let all = "config.json, preprocessor_config.json, tokenizer.json or vocab.txt";
        let path = file.display();
        assert_eq!(message(&file), format!("model file {path} is incomplete: missing {all} in its folder"));
        for name in ["config.json", "vocab.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(
            message(&file),
            format!("model file {path} is incomplete: missing preprocessor_config.json in its folder")
        );
        fs::write(folder.path().join("preprocessor_config.json"), "").unwrap();
        assert!(ModelFiles::File(file).check().is_ok());
    }

    #[test]
    fn file_in_working_folder_resolves_sibling_paths() {
        let files = ModelFiles::File("model_base.pth".into());
        assert_eq!(files.path("config.json").unwrap(), Path::new("config.json"));
        assert_eq!(files.weight_file_name(), Some("model_base.pth"));
    }
}
