//! Decompresses one message.

use std::{
    collections::VecDeque,
    io::{self, Write},
};

use bytes::Bytes;
use flate2::write::GzDecoder;

use crate::{
    error::{ErrorReason, RequestError},
    grpc::framing::parser::unreadable,
    request::memory_budget::{ArrivingMessage, BudgetPermit, CallerBudget},
};

/// The decoder of a message in the format gzip.
#[derive(Debug)]
pub(crate) struct MessageDecoder(GzDecoder<Contents>);

/// The decompressed bytes, in pieces, with their memory.
#[derive(Debug)]
struct Contents {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    max_bytes: usize,
    message: ArrivingMessage,
    error: Option<RequestError>,
}

impl MessageDecoder {
    /// Creates a decoder of a message of at most `max_bytes`, with its memory in `budget`.
    ///
    /// # Errors
    /// A [`RequestError`] of the call.
    pub(crate) fn new(budget: &CallerBudget, max_bytes: usize) -> Result<Self, RequestError> {
        let message = budget.begin(&BudgetPermit::default(), None)?;
        let pieces = VecDeque::new();
        Ok(Self(GzDecoder::new(Contents { pieces, bytes: 0, max_bytes, message, error: None })))
    }

    /// Decompresses the next bytes.
    ///
    /// # Errors
    /// A [`RequestError`] of the call.
    pub(crate) fn write(&mut self, compressed: &[u8]) -> Result<(), RequestError> {
        let written = self.0.write_all(compressed);
        written.map_err(|error| self.error_of(&error))
    }

    /// Returns the message with its prefix.
    ///
    /// # Errors
    /// A [`RequestError`] of the call.
    pub(crate) fn finish(&mut self) -> Result<VecDeque<Bytes>, RequestError> {
        let finished = self.0.try_finish();
        finished.map_err(|error| self.error_of(&error))?;
        let Contents { pieces, bytes, .. } = self.0.get_mut();
        let [a, b, c, d] = u32::try_from(*bytes).unwrap_or(u32::MAX).to_be_bytes();
        pieces.push_front(Bytes::copy_from_slice(&[0, a, b, c, d]));
        Ok(std::mem::take(pieces))
    }

    fn error_of(&mut self, error: &io::Error) -> RequestError {
        let cause = || unreadable(format!("invalid gzip: {error}"));
        self.0.get_mut().error.take().unwrap_or_else(cause)
    }
}

impl Contents {
    fn add(&mut self, piece: &[u8]) -> Result<(), RequestError> {
        if self.bytes + piece.len() > self.max_bytes {
            return Err(RequestError::new(ErrorReason::MessageTooLarge)
                .value("more bytes after decompression")
                .limit(format!("{} bytes", self.max_bytes)));
        }
        self.message.receive(piece.len())?;
        self.bytes += piece.len();
        self.pieces.push_back(Bytes::copy_from_slice(piece));
        Ok(())
    }
}

impl Write for Contents {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self.add(piece) {
            Ok(()) => Ok(piece.len()),
            Err(error) => {
                let failure = io::Error::other(error.message());
                self.error = Some(error);
                Err(failure)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
