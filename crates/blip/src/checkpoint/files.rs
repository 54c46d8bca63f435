//! The files of a checkpoint: a folder in Hugging Face's layout, a weight file with its folder, or
//! files inside the binary.

use std::{
    borrow::Cow,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use regular_file::StableFile;

use crate::error::LoadError;

/// Files that every checkpoint needs besides its weights and those of which it needs one.
pub(crate) const REQUIRED: [&str; 1] = ["config.json"];
/// Files of which a checkpoint needs at least one.
pub(crate) const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.txt"];
/// Files of which a checkpoint needs at least one.
pub(crate) const PREPROCESSORS: [&str; 2] = ["processor_config.json", "preprocessor_config.json"];
/// Files that a checkpoint may have.
pub(crate) const OPTIONAL: [&str; 4] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/// Names of [`TOKENIZERS`] in errors.
pub(crate) const TOKENIZER_FILES: &str = "tokenizer.json or vocab.txt";
/// Names of [`PREPROCESSORS`] in errors.
pub(crate) const PREPROCESSOR_FILES: &str = "preprocessor_config.json or processor_config.json";

/// Size of the largest file of a vocabulary, in bytes. That of BERT has 0.7 MB.
const MAX_VOCABULARY_BYTES: u64 = 32 << 20;
/// Size of the largest other file except weights, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Source of the files of one checkpoint.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
    /// A folder in Hugging Face's layout that a client names. Links to files outside of `root` are
    /// not followed.
    ConfinedFolder {
        /// The folder of the checkpoint.
        folder: PathBuf,
        /// The canonical path of the folder with all checkpoints.
        root: PathBuf,
    },
    /// A weight file, such as a `.pth` of the original repository. The other files are in its
    /// folder.
    File(PathBuf),
    /// Files inside the binary, as names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// A weight file, in memory or on disk.
#[derive(Debug)]
pub(crate) enum WeightFile {
    Embedded(&'static [u8]),
    OnDisk(StableFile),
}

impl WeightFile {
    /// Returns the size of the file, in bytes.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Embedded(bytes) => bytes.len() as u64,
            Self::OnDisk(file) => file.length(),
        }
    }

    /// Returns the bytes of `range`.
    ///
    /// # Errors
    /// Those of [`StableFile::read`].
    pub(crate) fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Embedded(bytes) => {
                let end = || -> io::Error { io::ErrorKind::UnexpectedEof.into() };
                let [start, stop] =
                    [range.start, range.end].map(|offset| usize::try_from(offset).unwrap_or(usize::MAX));
                bytes.get(start..stop).map(Cow::Borrowed).ok_or_else(end)
            }
            Self::OnDisk(file) => file.read(range).map(Cow::Owned),
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
            Self::Folder(folder) | Self::ConfinedFolder { folder, .. } => {
                if folder.is_dir() {
                    Ok(())
                } else {
                    Err(LoadError::NoFolder(folder.clone()))
                }
            }
            Self::File(file) if !file.is_file() => Err(LoadError::NoFile(file.clone())),
            Self::File(file) => {
                let missing = |name: &&str| !file.with_file_name(name).exists();
                let mut absent: Vec<&str> = REQUIRED.into_iter().filter(missing).collect();
                for (files, names) in [(PREPROCESSORS, PREPROCESSOR_FILES), (TOKENIZERS, TOKENIZER_FILES)] {
                    if files.iter().all(missing) {
                        absent.push(names);
                    }
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
            Self::Folder(_) | Self::ConfinedFolder { .. } | Self::Embedded(_) => None,
        }
    }

    /// Returns the path of a file of this name, which may be missing. `None` for embedded files.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) | Self::ConfinedFolder { folder, .. } => Some(folder.join(name)),
            Self::File(file) => Some(file.parent().unwrap_or(Path::new("")).join(name)),
            Self::Embedded(_) => None,
        }
    }

    /// Returns the content of a small file, or `None` if the checkpoint has no such file.
    ///
    /// # Errors
    /// [`LoadError::Read`] if the file exists but cannot be read, is no regular file, or is too
    /// large. [`LoadError::Outside`] if it is a link that must not be followed.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        let Some(path) = self.path(name) else { return Ok(self.embedded(name).map(Cow::Borrowed)) };
        let limit = if TOKENIZERS.contains(&name) { MAX_VOCABULARY_BYTES } else { MAX_FILE_BYTES };
        let read = self.within_root(path, name).map(|path| regular_file::read(&path, limit));
        Ok(existing(name, read)?.map(Cow::Owned))
    }

    /// Returns the content of a small file that every checkpoint needs.
    ///
    /// # Errors
    /// [`LoadError::MissingFile`] if it is missing, otherwise those of [`Self::read`].
    pub(crate) fn require(&self, name: &'static str) -> Result<Cow<'static, [u8]>, LoadError> {
        self.read(name)?.ok_or(LoadError::MissingFile(name))
    }

    /// Returns a safetensors file, or `None` if the checkpoint has no such file.
    ///
    /// # Errors
    /// Those of [`Self::read`], except that its size has no limit.
    pub(crate) fn weights(&self, name: &str) -> Result<Option<WeightFile>, LoadError> {
        let Some(path) = self.path(name) else { return Ok(self.embedded(name).map(WeightFile::Embedded)) };
        let opened = self.within_root(path, name).map(|path| StableFile::open(&path));
        Ok(existing(name, opened)?.map(WeightFile::OnDisk))
    }

    /// Returns the path of a regular file of weights, or `None` if the checkpoint has no such file
    /// on disk.
    ///
    /// # Errors
    /// Those of [`Self::weights`].
    pub(crate) fn weight_path(&self, name: &str) -> Result<Option<PathBuf>, LoadError> {
        let Some(path) = self.path(name) else { return Ok(None) };
        let opened = self.within_root(path, name).map(|path| regular_file::open(&path).map(|_| path));
        existing(name, opened)
    }

    /// Returns the path to open for the file `name`, after a check of its links.
    fn within_root(&self, path: PathBuf, name: &str) -> Result<PathBuf, LoadError> {
        let Self::ConfinedFolder { root, .. } = self else { return Ok(path) };
        match path.canonicalize() {
            Ok(target) if target.starts_with(root) => Ok(target),
            Ok(_) => Err(LoadError::Outside { file: name.to_owned() }),
            // Opening the path gives the same error, which is that of a missing file in most cases.
            Err(_) => Ok(path),
        }
    }

    fn embedded(&self, name: &str) -> Option<&'static [u8]> {
        let Self::Embedded(files) = self else { return None };
        files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
    }
}

/// Returns what was read from the file `name`, or `None` if it is missing.
fn existing<T>(name: &str, read: Result<io::Result<T>, LoadError>) -> Result<Option<T>, LoadError> {
    match read? {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LoadError::Read { file: name.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn weight_file_alone_is_rejected_with_missing_file_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model_base.pth");
        let message = |file: &Path| ModelFiles::File(file.to_owned()).check().unwrap_err().to_string();
        assert_eq!(message(&file), format!("model file {} does not exist", file.display()));
        fs::write(&file, "").unwrap();
        let all = "config.json, preprocessor_config.json or processor_config.json, \
                   tokenizer.json or vocab.txt";
        let path = file.display();
        assert_eq!(message(&file), format!("model file {path} is incomplete: missing {all} in its folder"));
        for name in ["config.json", "vocab.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(
            message(&file),
            format!(
                "model file {path} is incomplete: \
                 missing preprocessor_config.json or processor_config.json in its folder"
            )
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

    /// Returns a folder of checkpoints, with the checkpoint `mine` in it.
    fn confined() -> (tempfile::TempDir, ModelFiles) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().canonicalize().unwrap().join("models");
        let folder = root.join("mine");
        fs::create_dir_all(&folder).unwrap();
        (outer, ModelFiles::ConfinedFolder { folder, root })
    }

    #[test]
    fn link_out_of_the_root_is_rejected_and_others_are_followed() {
        let (outer, files) = confined();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(outer.path().join("models/shared"), "shared").unwrap();
        symlink("../../secret", files.path("config.json").unwrap()).unwrap();
        symlink("../shared", files.path("vocab.txt").unwrap()).unwrap();
        symlink("nowhere", files.path("tokenizer.json").unwrap()).unwrap();
        let message = "cannot read config.json: it leads out of the model folder";
        assert_eq!(files.read("config.json").unwrap_err().to_string(), message);
        assert_eq!(files.weights("config.json").unwrap_err().to_string(), message);
        assert_eq!(files.weight_path("config.json").unwrap_err().to_string(), message);
        assert_eq!(files.read("vocab.txt").unwrap().unwrap().as_ref(), b"shared");
        assert!(files.read("tokenizer.json").unwrap().is_none());
        let files = ModelFiles::Folder(outer.path().join("models/mine"));
        assert_eq!(files.read("config.json").unwrap().unwrap().as_ref(), b"secret");
    }

    #[test]
    fn device_and_oversized_file_are_rejected_with_name() {
        let folder = tempfile::tempdir().unwrap();
        let files = ModelFiles::Folder(folder.path().to_owned());
        symlink("/dev/zero", files.path("config.json").unwrap()).unwrap();
        let error = "cannot read config.json: not a regular file";
        assert_eq!(files.read("config.json").unwrap_err().to_string(), error);
        assert_eq!(files.weights("config.json").unwrap_err().to_string(), error);
        let sparse = fs::File::create(files.path("tokenizer_config.json").unwrap()).unwrap();
        sparse.set_len(1 << 30).unwrap();
        assert_eq!(
            files.read("tokenizer_config.json").unwrap_err().to_string(),
            "cannot read tokenizer_config.json: file too large: 1073741824 bytes, 4194304 allowed"
        );
    }
}
