//! Room for request messages: what all callers together may have in memory is bounded, and a message that finds no
//! room, or is too long, is refused by its length prefix, before it is read.

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

use crate::errors::{Reason, Refusal};

/// A gRPC message is led by one byte of flags and four of length.
const PREFIX_BYTES: usize = 5;

/// A semaphore counts in `u32`; in KiB that is room enough.
const PERMIT_BYTES: usize = 1 << 10;

/// When a caller who found no room might find some: a guess, as rooms differ in size and calls in length.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The room that all calls share.
#[derive(Clone, Debug)]
pub struct Room {
    permits: Arc<Semaphore>,
    capacity_bytes: usize,
    max_message_bytes: usize,
    stall_limit: Duration,
}

impl Room {
    /// Room for `capacity_bytes` of messages of at most `max_message_bytes` each, whose uploads may stand still for
    /// `stall_limit`.
    #[must_use]
    pub fn new(capacity_bytes: usize, max_message_bytes: usize, stall_limit: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(capacity_bytes.div_ceil(PERMIT_BYTES)));
        Self { permits, capacity_bytes, max_message_bytes, stall_limit }
    }

    /// Longest message, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// How long an upload may stand still.
    #[must_use]
    pub fn stall_limit(&self) -> Duration {
        self.stall_limit
    }

    /// Takes room for a message of this length.
    ///
    /// # Errors
    /// A [`Refusal`] of the call, if the message is too long or there is no room.
    pub fn hold(&self, message_bytes: usize) -> Result<Held, Refusal> {
        let held = Held::default();
        held.add(self.take(message_bytes)?);
        Ok(held)
    }

    /// Adds room for the next `more_bytes` of a message whose first `so_far` bytes `held` has room for.
    ///
    /// # Errors
    /// As those of [`Room::hold`].
    pub fn extend(&self, held: &Held, so_far: usize, more_bytes: usize) -> Result<(), Refusal> {
        let message_bytes = so_far.saturating_add(more_bytes);
        if message_bytes > self.max_message_bytes {
            return Err(self.too_large(format!("at least {message_bytes} bytes")));
        }
        held.add(self.take(more_bytes)?);
        Ok(())
    }

    fn too_large(&self, value: String) -> Refusal {
        let limit = format!("{} bytes", self.max_message_bytes);
        Refusal::new(Reason::MessageTooLarge).value(value).limit(limit)
    }

    fn take(&self, message_bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        if message_bytes > self.max_message_bytes {
            return Err(self.too_large(format!("{message_bytes} bytes")));
        }
        let permits = u32::try_from(message_bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.permits).try_acquire_many_owned(permits).map_err(|_| {
            let free = self.permits.available_permits() * PERMIT_BYTES;
            Refusal::new(Reason::ServerBusy)
                .value(format!("{} bytes of requests", self.capacity_bytes.saturating_sub(free)))
                .limit(format!("{} bytes", self.capacity_bytes))
                .retry_after(RETRY_AFTER)
        })
    }
}

/// The room that one call's messages take, one permit for each message: an extension of its request. It is given back
/// when the last clone is gone.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Mutex<VecDeque<OwnedSemaphorePermit>>>);

impl Held {
    fn add(&self, permit: OwnedSemaphorePermit) {
        self.permits().push_back(permit);
    }

    /// Lets go of the room of the first message that has not been let go of, which is then all that the result holds.
    #[must_use]
    pub fn next_message(&self) -> Self {
        let first = self.permits().pop_front();
        Self(Arc::new(Mutex::new(first.into_iter().collect())))
    }

    fn permits(&self) -> MutexGuard<'_, VecDeque<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gRPC service whose requests have to find room.
#[derive(Clone, Debug)]
pub struct Metered<S> {
    inner: S,
    room: Room,
}

impl<S> Metered<S> {
    /// `inner`, with its request messages in `room`.
    pub fn new(inner: S, room: Room) -> Self {
        Self { inner, room }
    }
}

impl<S: NamedService> NamedService for Metered<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Metered<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let held = Held::default();
        request.extensions_mut().insert(held.clone());
        let room = self.room.clone();
        self.inner.call(request.map(|body| Body::new(MeteredBody::new(body, room, held))))
    }
}

/// Finds the length prefixes in a body that arrives in pieces.
#[derive(Debug, Default)]
struct Prefixes {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of `prefix` seen.
    seen: usize,
    /// Bytes still to come of the message that the last prefix announced.
    to_come: usize,
    /// Messages announced.
    messages: u64,
}

impl Prefixes {
    /// Whether a message is under way, or the first one is still to come: between messages a stream may rest.
    fn expect_more(&self) -> bool {
        self.messages == 0 || self.seen > 0 || self.to_come > 0
    }

    /// Walks over a piece and calls `announce` with the length of each message that begins in it.
    fn walk(
        &mut self,
        mut piece: &[u8],
        announce: &mut dyn FnMut(usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
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

/// A request body that takes room for its messages as their lengths become known.
#[derive(Debug)]
struct MeteredBody {
    body: Body,
    prefixes: Prefixes,
    room: Room,
    held: Held,
    /// Runs while more of a message is waited for.
    stall: Pin<Box<Sleep>>,
}

impl MeteredBody {
    fn new(body: Body, room: Room, held: Held) -> Self {
        let stall = Box::pin(tokio::time::sleep(room.stall_limit));
        Self { body, prefixes: Prefixes::default(), room, held, stall }
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let Self { prefixes, room, held, stall, .. } = this;
            if let Some(limit) = Instant::now().checked_add(room.stall_limit) {
                stall.as_mut().reset(limit);
            }
            let walked = prefixes.walk(data, &mut |length| {
                held.add(room.take(length)?);
                Ok(())
            });
            if let Err(refusal) = walked {
                return Poll::Ready(Some(Err(refusal.to_status())));
            }
        }
        if polled.is_pending() && this.prefixes.expect_more() && this.stall.as_mut().poll(cx).is_ready() {
            let limit = format!("{} s", this.room.stall_limit.as_secs());
            let refusal = Refusal::new(Reason::UploadStalled).limit(limit);
            return Poll::Ready(Some(Err(refusal.to_status())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STALL_LIMIT: Duration = Duration::from_secs(20);

    fn metered(body: impl futures::Stream<Item = Vec<u8>> + Send + 'static) -> MeteredBody {
        let frames = futures::StreamExt::map(body, |data| Ok::<_, Status>(Frame::data(Bytes::from(data))));
        let body = Body::new(http_body_util::StreamBody::new(frames));
        MeteredBody::new(body, Room::new(1 << 20, 1 << 20, STALL_LIMIT), Held::default())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_stands_still_is_refused_and_a_stream_may_rest_between_messages() {
        use futures::{StreamExt as _, stream};
        use http_body_util::BodyExt as _;

        let begin = Instant::now();
        let half = stream::iter([framed(&[vec![7; 100]])[..50].to_vec()]).chain(stream::pending());
        let mut body = metered(half);
        assert!(body.frame().await.unwrap().is_ok());
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!(status.message(), "the request message stood still for 20 s");
        assert_eq!(begin.elapsed(), STALL_LIMIT);

        let mut silent = metered(stream::pending());
        assert!(silent.frame().await.unwrap().is_err());

        let mut resting = metered(stream::iter([framed(&[vec![7; 100]])]).chain(stream::pending()));
        assert!(resting.frame().await.unwrap().is_ok());
        assert!(tokio::time::timeout(10 * STALL_LIMIT, resting.frame()).await.is_err());
    }

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for message in messages {
            body.push(0);
            body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            body.extend(message);
        }
        body
    }

    proptest! {
        #[test]
        fn every_message_is_announced_however_the_body_is_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            piece_bytes in 1_usize..50,
        ) {
            let mut announced = Vec::new();
            let mut prefixes = Prefixes::default();
            for piece in framed(&messages).chunks(piece_bytes) {
                prefixes.walk(piece, &mut |length| { announced.push(length); Ok(()) }).unwrap();
            }
            prop_assert_eq!(announced, messages.iter().map(Vec::len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_whatever_room_there_is() {
        let refusal = Room::new(1 << 30, 1000, STALL_LIMIT).take(1001).unwrap_err();
        assert_eq!(refusal.reason(), Reason::MessageTooLarge);
        assert_eq!(refusal.to_string(), "the request message is 1001 bytes long, the limit is 1000 bytes");
    }

    #[test]
    fn room_is_given_back_when_a_call_lets_go_of_it() {
        let room = Room::new(8 << 10, 8 << 10, STALL_LIMIT);
        let held = Held::default();
        held.add(room.take(3 << 10).unwrap());
        held.add(room.take(5 << 10).unwrap());
        // Of a stream, each message is let go of by itself.
        let (first, second) = (held.next_message(), held.next_message());
        drop(first);
        let taken = room.take(3 << 10).unwrap();
        let refusal = room.take(1).unwrap_err();
        assert_eq!(refusal.reason(), Reason::ServerBusy);
        assert_eq!(refusal.to_string(), "the server holds 8192 bytes of requests, the limit is 8192 bytes");
        drop((taken, second));
        assert!(room.take(8 << 10).is_ok());
    }
}
