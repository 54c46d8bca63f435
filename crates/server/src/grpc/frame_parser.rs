use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use crate::error::{ErrorReason, RequestError};

/// A gRPC message is led by one byte of flags and four of length.
const PREFIX_BYTES: usize = 5;

/// Finds the length prefixes in a body that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct FrameParser {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of `prefix` seen.
    seen: usize,
    /// Bytes still to come of the message that the last prefix announced.
    to_come: usize,
    /// Messages announced.
    messages: u64,
}

impl FrameParser {
    /// Whether a message is under way, or the first one is still to come: between messages a stream
    /// may rest.
    pub(crate) fn expect_more(&self) -> bool {
        self.messages == 0 || self.seen > 0 || self.to_come > 0
    }

    /// Walks over a piece and calls `announce` with the length of each message that begins in it.
    pub(crate) fn advance(
        &mut self,
        mut piece: &[u8],
        announce: &mut dyn FnMut(usize) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        while let Some((first, rest)) = piece.split_first() {
            if self.to_come > 0 {
                let skipped = self.to_come.min(piece.len());
                self.to_come -= skipped;
                piece = piece.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.prefix.get_mut(self.seen) {
                *place = *first;
            }
            self.seen += 1;
            piece = rest;
            if self.seen == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.seen = 0;
                self.messages += 1;
                self.to_come = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                announce(self.to_come)?;
            }
        }
        Ok(())
    }
}
