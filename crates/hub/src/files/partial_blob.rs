//! A partially downloaded blob. Its bytes are hashed while they are written.
//!
//! A complete and verified blob is renamed to its final name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    error::HubError,
    files::{checksum::Hasher, disk::create_folder, file_lock::FileLock, remote_file::RemoteFile},
};

/// Size of the blocks that are read back, in bytes.
const READ_BYTES: usize = 1 << 20;

/// A file with the extension `.incomplete`, with the content of an earlier download.
///
/// It owns the file lock while data may be written.
#[derive(Debug)]
pub(crate) struct PartialBlob {
    path: PathBuf,
    file: File,
    initial_hasher: Hasher,
    hasher: Hasher,
    length: u64,
    size: u64,
    _lock: FileLock,
}

impl PartialBlob {
    /// Opens the file and hashes its content.
    ///
    /// A file longer than `remote` is truncated to 0 bytes.
    pub(crate) fn open(path: PathBuf, remote: &RemoteFile, lock: FileLock) -> Result<Self, HubError> {
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = opened.map_err(HubError::file("open", &path))?;
        let initial_hasher = remote.tag.hasher(remote.size);
        let mut partial = Self {
            path,
            file,
            hasher: initial_hasher.clone(),
            initial_hasher,
            length: 0,
            size: remote.size,
            _lock: lock,
        };
        partial.read_back().map_err(HubError::file("read", &partial.path))?;
        if partial.length > partial.size {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn read_back(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = self.file.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            self.hasher.update(bytes);
            self.length += bytes.len() as u64;
        }
    }

    /// Returns the number of bytes in the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the number of missing bytes.
    pub(crate) fn remaining(&self) -> u64 {
        self.size.saturating_sub(self.length)
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::file("write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Truncates the file to 0 bytes.
    pub(crate) fn restart(&mut self) -> Result<(), HubError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(HubError::file("write", &self.path))?;
        self.hasher = self.initial_hasher.clone();
        self.length = 0;
        Ok(())
    }

    /// Checks the hash of the content against the hash of `remote`.
    pub(crate) fn verify(&self, remote: &RemoteFile) -> Result<(), HubError> {
        let found = self.hasher.digest();
        if found == remote.tag.as_str() {
            return Ok(());
        }
        Err(HubError::Checksum {
            file: remote.name.clone(),
            algorithm: self.hasher.algorithm(),
            found,
            expected: remote.tag.as_str().to_owned(),
        })
    }

    /// Renames the file to `blob`. Syncs it first, so that no crash leaves an incomplete blob.
    pub(crate) fn finish(self, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(HubError::file("write", &self.path))?;
        fs::rename(&self.path, blob).map_err(HubError::file("write", blob))
    }

    /// Deletes the file.
    pub(crate) fn discard(self) -> Result<(), HubError> {
        fs::remove_file(&self.path).map_err(HubError::file("delete", &self.path))
    }
}
