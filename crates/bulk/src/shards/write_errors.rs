//! Distinguishes errors of writing from errors of reading.

use std::io::{self, Write};

/// Remembers whether writing has failed. Other errors of copying come from reading.
#[derive(Debug)]
pub(super) struct WriteErrors<W> {
    inner: W,
    has_failed: bool,
}

impl<W> WriteErrors<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, has_failed: false }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn note(&mut self, error: &io::Error) {
        self.has_failed |= error.kind() != io::ErrorKind::Interrupted;
    }
}

impl<W: Write> Write for WriteErrors<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        written.inspect_err(|error| self.note(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        flushed.inspect_err(|error| self.note(error))
    }
}
