//! Decompresses request messages, within the limits of messages that are not compressed.
//!
//! The service behind receives the decompressed messages. Compressed bytes are not stored. The
//! decompressed ones are in the memory budget while they are decompressed. Decompression stops at
//! the maximum length of a message.

pub mod decoder; // one compressed message

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body, server::NamedService, transport::server::TcpConnectInfo};
use tower_service::Service;

use crate::{
    auth::client::Client,
    error::RequestError,
    fair_share::Caller,
    grpc::{
        frame_parser::PREFIX_BYTES,
        framing::{ENCODING, parser::unreadable},
        inflate::decoder::MessageDecoder,
    },
    request::memory_budget::{CallerBudget, MemoryBudget},
};

/// The flags of a compressed message.
const COMPRESSED: u8 = 1;

/// Compressed bytes that are decompressed at once. Other calls make progress in between, since
/// these can become a thousand times as many bytes.
const STEP_BYTES: usize = 4 << 10;

/// A gRPC service whose request messages are decompressed.
#[derive(Clone, Debug)]
pub struct InflatedService<S> {
    inner: S,
    budget: MemoryBudget,
    max_message_bytes: usize,
}

impl<S> InflatedService<S> {
    /// Wraps `inner`, whose messages have at most `max_message_bytes` each.
    pub fn new(inner: S, budget: MemoryBudget, max_message_bytes: usize) -> Self {
        Self { inner, budget, max_message_bytes }
    }
}

impl<S: NamedService> NamedService for InflatedService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for InflatedService<S>
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
        if request.headers().get(ENCODING).is_none_or(|encoding| encoding != "gzip") {
            return self.inner.call(request);
        }
        request.headers_mut().insert(ENCODING, HeaderValue::from_static("identity"));
        let budget = match request.extensions().get::<Client>() {
            Some(client) => self.budget.of(client.caller()),
            // Health needs no key.
            None => {
                let peer = request.extensions().get::<TcpConnectInfo>();
                let address = peer.and_then(TcpConnectInfo::remote_addr).map(|peer| peer.ip());
                self.budget.of_keyless(Caller::peer(address))
            }
        };
        let max_message_bytes = self.max_message_bytes;
        self.inner.call(request.map(|body| {
            let (state, output) = (State::Prefix(Vec::new()), VecDeque::new());
            Body::new(InflatedBody { body, chunk: Bytes::new(), state, output, budget, max_message_bytes })
        }))
    }
}

/// A request body whose messages are decompressed.
#[derive(Debug)]
struct InflatedBody {
    body: Body,
    /// The part of the last chunk that was not read yet.
    chunk: Bytes,
    state: State,
    /// What the service behind has not received yet.
    output: VecDeque<Bytes>,
    budget: CallerBudget,
    max_message_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// The bytes of a prefix that have arrived.
    Prefix(Vec<u8>),
    /// The number of missing bytes of a message that is passed on.
    Plain(usize),
    /// The number of missing bytes of a compressed message, and what it contains so far.
    Compressed(usize, Box<MessageDecoder>),
}

impl InflatedBody {
    /// Reads a part of the chunk. Returns whether it was work for the processor.
    fn advance(&mut self) -> Result<bool, RequestError> {
        match &mut self.state {
            State::Prefix(prefix) => {
                let missing = PREFIX_BYTES.saturating_sub(prefix.len()).min(self.chunk.len());
                prefix.extend_from_slice(&self.chunk.split_to(missing));
                let Ok([flags, length @ ..]) = <[u8; PREFIX_BYTES]>::try_from(prefix.as_slice()) else {
                    return Ok(false);
                };
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if flags == COMPRESSED {
                    let decoder = MessageDecoder::new(&self.budget, self.max_message_bytes)?;
                    self.state = State::Compressed(length, Box::new(decoder));
                    return Ok(false);
                }
                self.output.push_back(std::mem::take(prefix).into());
                self.state = State::Plain(length);
            }
            State::Plain(missing) => {
                let piece = self.chunk.split_to(self.chunk.len().min(*missing));
                *missing -= piece.len();
                if *missing == 0 {
                    self.state = State::Prefix(Vec::new());
                }
                if !piece.is_empty() {
                    self.output.push_back(piece);
                }
            }
            State::Compressed(missing, decoder) => {
                let step = self.chunk.split_to(self.chunk.len().min(*missing).min(STEP_BYTES));
                *missing -= step.len();
                decoder.write(&step)?;
                if *missing == 0 {
                    self.output = decoder.finish()?;
                    self.state = State::Prefix(Vec::new());
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether the state changes without more bytes: an empty message has no data.
    fn is_complete(&self) -> bool {
        matches!(self.state, State::Plain(0) | State::Compressed(0, _))
    }
}

impl HttpBody for InflatedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.output.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.chunk.is_empty() && !self.is_complete() {
                match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(chunk) => self.chunk = chunk,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                    None if matches!(self.state, State::Compressed(..)) => {
                        self.state = State::Prefix(Vec::new());
                        let error = unreadable("the body ends within a compressed message");
                        return Poll::Ready(Some(Err(error.to_status())));
                    }
                    end => return Poll::Ready(end),
                }
                continue;
            }
            match self.advance() {
                Ok(true) if self.output.is_empty() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.to_status()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use futures::stream;
    use http_body_util::{BodyExt as _, StreamBody};
    use proptest::prelude::*;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::request::memory_budget::tests::caller_budget;

    const MAX_BYTES: usize = 1 << 20;

    fn frame(flags: u8, message: &[u8]) -> Vec<u8> {
        [&[flags][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    /// Returns what the service receives of a body, or the reason of its error.
    async fn inflate(body: &[u8], chunk_bytes: usize, budget_bytes: usize) -> Result<Vec<u8>, String> {
        let chunks: Vec<_> = body.chunks(chunk_bytes).map(Bytes::copy_from_slice).collect();
        let frames = stream::iter(chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(chunk))));
        let mut body = InflatedBody {
            body: Body::new(StreamBody::new(frames)),
            chunk: Bytes::new(),
            state: State::Prefix(Vec::new()),
            output: VecDeque::new(),
            budget: caller_budget(budget_bytes, MAX_BYTES),
            max_message_bytes: MAX_BYTES,
        };
        let mut received = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => received.extend_from_slice(&frame.into_data().unwrap()),
                Err(status) => return Err(status.get_details_error_info().unwrap().reason),
            }
        }
        Ok(received)
    }

    #[tokio::test]
    async fn bomb_stops_at_the_maximum_length_or_the_budget() {
        let bomb = frame(1, &gzip(&vec![0; 64 << 20]));
        assert!(bomb.len() < 80_000);
        assert_eq!(inflate(&bomb, 16_384, 64 << 20).await.unwrap_err(), "MESSAGE_TOO_LARGE");
        assert_eq!(inflate(&bomb, 16_384, MAX_BYTES / 2).await.unwrap_err(), "SERVER_BUSY");
    }

    #[tokio::test]
    async fn damaged_message_is_unreadable() {
        let whole = gzip(b"a message");
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for body in [
            frame(1, b"no gzip"),
            frame(1, b""),
            frame(1, &damaged),
            frame(1, &whole[..whole.len() - 4]),
            frame(1, &[&whole[..], b"more"].concat()),
            frame(1, &whole)[..20].to_vec(),
        ] {
            assert_eq!(inflate(&body, 7, MAX_BYTES).await.unwrap_err(), "BODY_UNREADABLE", "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn compressed_and_plain_messages_are_passed_on(
            messages in proptest::collection::vec((any::<bool>(), 0_usize..100_000), 0..5), chunk_bytes in 1_usize..9_000,
        ) {
            let (mut body, mut expected) = (Vec::new(), Vec::new());
            for (is_compressed, length) in messages {
                let message: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
                body.extend(if is_compressed { frame(1, &gzip(&message)) } else { frame(0, &message) });
                expected.extend(frame(0, &message));
            }
            let received = futures::executor::block_on(inflate(&body, chunk_bytes, 16 << 20));
            prop_assert_eq!(received, Ok(expected));
        }
    }
}
