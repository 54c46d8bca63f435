//! A weights file mapped into memory: the one place where the model crate maps files.
#![expect(unsafe_code, reason = "mapping a file is a foreign-function edge")]

use std::{fs::File, io, ops::Range, path::Path};

use memmap2::{Mmap, UncheckedAdvice};

/// A read-only mapping of a whole file.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only and private. A file that another process truncates while it is being
        // read would fault; weights are read once at start-up, and the loader's documentation says not to.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(map))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Lets the pages of `range` go, so that a loaded model is not in memory twice.
    pub(crate) fn release(&self, range: Range<usize>) {
        // SAFETY: on a read-only file mapping a page that is let go is read from the file again when touched;
        // the bytes seen through the mapping do not change.
        let advised =
            unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        if let Err(error) = advised {
            tracing::debug!(%error, "pages of the weights file were not let go");
        }
    }
}
