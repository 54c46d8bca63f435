//! Room for request messages: what all callers together may have in memory is bounded, and a
//! message that finds no room, or is too long, is refused by its length prefix, before it is read.

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

use crate::{
    error::{ErrorReason, RequestError},
    grpc::frame_parser::FrameParser,
    request::memory_budget::{BudgetPermit, MemoryBudget},
};

/// A gRPC service whose requests have to find room.
#[derive(Clone, Debug)]
pub struct BudgetedService<S> {
    inner: S,
    room: MemoryBudget,
}

impl<S> BudgetedService<S> {
    /// `inner`, with its request messages in `room`.
    pub fn new(inner: S, room: MemoryBudget) -> Self {
        Self { inner, room }
    }
}

impl<S: NamedService> NamedService for BudgetedService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for BudgetedService<S>
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
        let held = BudgetPermit::default();
        request.extensions_mut().insert(held.clone());
        let room = self.room.clone();
        self.inner.call(request.map(|body| Body::new(BudgetedBody::new(body, room, held))))
    }
}

/// A request body that takes room for its messages as their lengths become known.
#[derive(Debug)]
struct BudgetedBody {
    body: Body,
    prefixes: FrameParser,
    room: MemoryBudget,
    held: BudgetPermit,
    /// Runs while more of a message is waited for.
    stall: Pin<Box<Sleep>>,
}

impl BudgetedBody {
    fn new(body: Body, room: MemoryBudget, held: BudgetPermit) -> Self {
        let stall = Box::pin(tokio::time::sleep(room.stall_limit));
        Self { body, prefixes: FrameParser::default(), room, held, stall }
    }
}

impl HttpBody for BudgetedBody {
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
            let walked = prefixes.advance(data, &mut |length| {
                held.add(room.take(length)?);
                Ok(())
            });
            if let Err(refusal) = walked {
                return Poll::Ready(Some(Err(refusal.to_status())));
            }
        }
        if polled.is_pending() && this.prefixes.expect_more() && this.stall.as_mut().poll(cx).is_ready() {
            let limit = format!("{} s", this.room.stall_limit.as_secs());
            let refusal = RequestError::new(ErrorReason::UploadStalled).limit(limit);
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

    fn metered(body: impl futures::Stream<Item = Vec<u8>> + Send + 'static) -> BudgetedBody {
        let frames = futures::StreamExt::map(body, |data| Ok::<_, Status>(Frame::data(Bytes::from(data))));
        let body = Body::new(http_body_util::StreamBody::new(frames));
        BudgetedBody::new(body, MemoryBudget::new(1 << 20, 1 << 20, STALL_LIMIT), BudgetPermit::default())
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
        assert_eq!(status.message(), "request upload idle for 20 s");
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
            let mut prefixes = FrameParser::default();
            for piece in framed(&messages).chunks(piece_bytes) {
                prefixes.advance(piece, &mut |length| { announced.push(length); Ok(()) }).unwrap();
            }
            prop_assert_eq!(announced, messages.iter().map(Vec::len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_whatever_room_there_is() {
        let refusal = MemoryBudget::new(1 << 30, 1000, STALL_LIMIT).take(1001).unwrap_err();
        assert_eq!(refusal.reason(), ErrorReason::MessageTooLarge);
        assert_eq!(refusal.to_string(), "request message too large: 1001 bytes, 1000 bytes allowed");
    }

    #[test]
    fn room_is_given_back_when_a_call_lets_go_of_it() {
        let room = MemoryBudget::new(8 << 10, 8 << 10, STALL_LIMIT);
        let held = BudgetPermit::default();
        held.add(room.take(3 << 10).unwrap());
        held.add(room.take(5 << 10).unwrap());
        // Of a stream, each message is let go of by itself.
        let (first, second) = (held.next_message(), held.next_message());
        drop(first);
        let taken = room.take(3 << 10).unwrap();
        let refusal = room.take(1).unwrap_err();
        assert_eq!(refusal.reason(), ErrorReason::ServerBusy);
        assert_eq!(refusal.to_string(), "server busy: 8192 bytes of requests in memory, 8192 bytes allowed");
        drop((taken, second));
        assert!(room.take(8 << 10).is_ok());
    }
}
