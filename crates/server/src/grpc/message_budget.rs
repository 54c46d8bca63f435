//! Reserves memory for each gRPC message while it arrives.
//!
//! A message that is too long, or for which the caller has too little memory left, is rejected by
//! its length prefix, before its data arrives.
//!
//! tonic allocates the announced length when it reads a prefix. With huge pages, each announced
//! message would then occupy up to 2 MiB. So the prefix waits for the rest of the message, or for
//! a part that is as large.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use crate::{
    auth::client::Client,
    error::RequestError,
    fair_share::Caller,
    grpc::frame_parser::{FrameParser, FramePart},
    request::{
        memory_budget::{ArrivingMessage, BudgetPermit, CallerBudget, MemoryBudget},
        upload_timer::UploadTimer,
    },
};

/// The length of a message that is not read if the rate of its client is exceeded, in bytes.
const LONG_MESSAGE_BYTES: usize = 64 << 10;

/// The part of a message for which its prefix waits, in bytes.
const HELD_BACK_BYTES: usize = 1 << 20;

/// A gRPC service whose request messages reserve memory in a budget.
#[derive(Clone, Debug)]
pub struct BudgetedService<S> {
    inner: S,
    budget: MemoryBudget,
}

impl<S> BudgetedService<S> {
    /// Creates the service.
    pub fn new(inner: S, budget: MemoryBudget) -> Self {
        Self { inner, budget }
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
        let permit = BudgetPermit::default();
        request.extensions_mut().insert(permit.clone());
        // Authentication comes first.
        let client = request.extensions().get::<Client>();
        let budget = self.budget.of(client.map_or(Caller::peer(None), Client::caller));
        // An exceeded rate ends one request of a stream, and not the stream.
        let is_stream = request.uri().path().ends_with("/AskStream");
        let client = client.filter(|_| !is_stream).cloned();
        self.inner.call(request.map(|body| Body::new(BudgetedBody::new(body, budget, permit, client))))
    }
}

/// A request body that reserves memory for its messages.
#[derive(Debug)]
struct BudgetedBody {
    body: Body,
    parser: FrameParser,
    budget: CallerBudget,
    permit: BudgetPermit,
    /// The client whose rate is checked before a long message is read.
    client: Option<Client>,
    message: Option<ArrivingMessage>,
    timer: UploadTimer,
    /// The beginning of the last message, if it is incomplete.
    held_back: BytesMut,
    /// Whether the beginning of the last message was passed on.
    is_passing: bool,
    /// What follows after `held_back`: the trailers, or the end.
    end: Option<Option<Frame<Bytes>>>,
}

impl BudgetedBody {
    fn new(body: Body, budget: CallerBudget, permit: BudgetPermit, client: Option<Client>) -> Self {
        let timer = UploadTimer::start(budget.clone());
        Self {
            body,
            parser: FrameParser::default(),
            budget,
            permit,
            client,
            message: None,
            timer,
            held_back: BytesMut::new(),
            is_passing: false,
            end: None,
        }
    }

    /// Returns the part of the next chunk, and of what was held back, that is passed on.
    fn pass(&mut self, mut chunk: Bytes, incomplete: usize) -> Bytes {
        self.is_passing &= incomplete == chunk.len();
        if self.is_passing {
            return chunk;
        }
        let begun = chunk.split_off(chunk.len().saturating_sub(incomplete));
        let complete = if chunk.is_empty() || self.held_back.is_empty() {
            chunk
        } else {
            self.held_back.extend_from_slice(&chunk);
            self.held_back.split().freeze()
        };
        self.held_back.extend_from_slice(&begun);
        if complete.is_empty() && self.held_back.len() >= HELD_BACK_BYTES {
            self.is_passing = true;
            return self.held_back.split().freeze();
        }
        complete
    }

    /// Counts the next chunk. Returns how many bytes at its end belong to an incomplete message.
    fn receive(&mut self, data: &[u8]) -> Result<usize, RequestError> {
        let Self { parser, budget, permit, client, message, timer, .. } = self;
        if parser.is_incomplete() {
            timer.progress();
        } else {
            timer.restart();
        }
        parser.advance(data, &mut |part| match (part, message.as_mut()) {
            (FramePart::Announced(bytes), before) => {
                // The time of the first message began with the call.
                if before.is_some() {
                    timer.restart();
                }
                if bytes > LONG_MESSAGE_BYTES
                    && let Some(client) = client
                {
                    client.check_quota()?;
                }
                *message = Some(budget.begin(permit, Some(bytes))?);
                Ok(())
            }
            (FramePart::Data(bytes), Some(message)) => message.receive(bytes),
            (FramePart::Data(_), None) => Ok(()),
        })
    }
}

impl HttpBody for BudgetedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(end) = self.end.take() {
                return Poll::Ready(end.map(Ok));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Some(frame),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(None) => None,
                Poll::Pending if self.parser.is_incomplete() => {
                    return self.timer.poll(cx).map(|error| Some(Err(error.to_status())));
                }
                Poll::Pending => return Poll::Pending,
            };
            match frame.map(Frame::into_data) {
                Some(Ok(chunk)) => match self.receive(&chunk) {
                    Err(error) => return Poll::Ready(Some(Err(error.to_status()))),
                    Ok(incomplete) => {
                        let passed = self.pass(chunk, incomplete);
                        if !passed.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(passed))));
                        }
                    }
                },
                end => {
                    self.end = Some(end.and_then(Result::err));
                    if !self.held_back.is_empty() {
                        let rest = self.held_back.split().freeze();
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held_back.is_empty() && self.end.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::{Stream, StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::Instant;

    use super::*;
    use crate::request::memory_budget::tests::{IDLE_TIMEOUT, UPLOAD_TIMEOUT, caller_budget};

    fn budgeted(body: impl Stream<Item = Vec<u8>> + Send + 'static) -> BudgetedBody {
        budgeted_with(body, 1 << 20)
    }

    fn budgeted_with(body: impl Stream<Item = Vec<u8>> + Send + 'static, max_bytes: usize) -> BudgetedBody {
        let frames = body.map(|data| Ok::<_, Status>(Frame::data(Bytes::from(data))));
        let body = Body::new(StreamBody::new(frames));
        BudgetedBody::new(body, caller_budget(max_bytes, max_bytes), BudgetPermit::default(), None)
    }

    /// Returns a message of 100 bytes with its prefix.
    fn message() -> Vec<u8> {
        [&[0, 0, 0, 0, 100][..], &[7; 100]].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn idle_upload_is_rejected_within_a_message() {
        let begin = Instant::now();
        let half = stream::iter([message()[..50].to_vec()]).chain(stream::pending());
        let mut body = budgeted(half);
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!(status.message(), "request upload idle for 20 s");
        assert_eq!(begin.elapsed(), IDLE_TIMEOUT);

        let mut silent = budgeted(stream::pending());
        assert!(silent.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn stream_may_pause_between_messages() {
        let mut body = budgeted(stream::iter([message()]).chain(stream::pending()));
        assert!(body.frame().await.unwrap().is_ok());
        assert!(tokio::time::timeout(10 * IDLE_TIMEOUT, body.frame()).await.is_err());
    }
    #[tokio::test(start_paused = true)]
    async fn slow_upload_is_rejected_despite_its_progress() {
        let begin = Instant::now();
        let pause = IDLE_TIMEOUT / 2;
        let drip = move |bytes: Vec<u8>| {
            stream::iter(bytes).then(move |byte| async move {
                tokio::time::sleep(pause).await;
                vec![byte]
            })
        };
        let mut body = budgeted(drip(message()));
        let error = loop {
            if let Err(status) = body.frame().await.unwrap() {
                break status;
            }
        };
        assert_eq!(error.message(), "request upload not complete after 600 s");
        assert_eq!(begin.elapsed(), UPLOAD_TIMEOUT);

        // Each message has the whole time.
        let short = [&[0, 0, 0, 0, 40][..], &[7; 40]].concat();
        let body = budgeted(drip([short.clone(), short].concat()));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 90);
    }
    #[tokio::test]
    async fn prefix_waits_for_its_message_or_a_large_part() {
        let long = [&[0, 0, 32, 0, 0][..], &[7; 1 << 21]].concat();
        let whole = [message(), long.clone(), message()].concat();
        for chunk_bytes in [1 << 10, 1 << 16, 3 << 20] {
            let chunks: Vec<_> = whole.chunks(chunk_bytes).map(<[u8]>::to_vec).collect();
            let mut body = budgeted_with(stream::iter(chunks), 4 << 20);
            let (mut received, mut lengths) = (Vec::new(), Vec::new());
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                lengths.push(data.len());
                received.extend_from_slice(&data);
            }
            assert!(received == whole);
            // The first message is not delayed by the beginning of the next one.
            assert!(chunk_bytes > whole.len() || lengths[0] == message().len(), "{lengths:?}");
            assert!(chunk_bytes > whole.len() || lengths[1] >= HELD_BACK_BYTES, "{lengths:?}");
        }
    }

    #[tokio::test]
    async fn incomplete_message_is_passed_on_at_the_end() {
        let half = message()[..50].to_vec();
        let body = budgeted(stream::iter([half.clone()]));
        assert_eq!(body.collect().await.unwrap().to_bytes(), half);
    }
}
