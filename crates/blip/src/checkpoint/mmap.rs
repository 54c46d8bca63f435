//! Memory mapping of weight files. Only this module of the crate maps files.
#![expect(unsafe_code, reason = "mapping a file is a foreign-function edge")]

use std::{fs::File, io, ops::Range, path::Path};

use memmap2::{Mmap, UncheckedAdvice};

/// Read-only mapping of a whole file.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only and private. Reading a file that another process
        // truncates faults. Weights are read once while the model is loaded, and the documentation
        // of the loader requires that the files do not change.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(map))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Releases the pages of `range`, so that a loaded model is not in memory twice.
    pub(crate) fn release(&self, range: Range<usize>) {
        // SAFETY: in a read-only file mapping, the kernel reads a released page from the file again
        // on the next access. The bytes of the mapping do not change.
        let advised =
            unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        if let Err(error) = advised {
            tracing::debug!(%error, "pages of weight file not released");
        }
    }
}
