//! Checks the framing of request messages, so that no fault of a client becomes an internal error.
//!
//! tonic reports a fault in the framing as `INTERNAL`, and answers the first of several messages of
//! a method that takes one.

pub mod parser; // length prefixes and flags

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::{Either, Ready, ready as ready_future};
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body, metadata::MetadataValue, server::NamedService};
use tower_service::Service;

use crate::{
    error::{ErrorReason, RequestError},
    grpc::framing::parser::{MessageParser, unreadable},
};

/// The header that names the compression of messages.
pub(crate) const ENCODING: &str = "grpc-encoding";

/// The header that names the compressions that the server accepts.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// The compressions that the server accepts. [`super::inflate`] leaves messages without one.
const ACCEPTED: &str = "gzip, identity";

/// The methods that take a stream of messages. All others take one message.
pub(crate) const STREAMING_METHODS: [&str; 2] = ["AskStream", "ServerReflectionInfo"];

/// A gRPC service whose request messages are checked.
#[derive(Clone, Debug)]
pub struct FramedService<S> {
    inner: S,
    max_message_bytes: usize,
}

impl<S> FramedService<S> {
    /// Wraps `inner`, whose messages have at most `max_message_bytes` each.
    pub fn new(inner: S, max_message_bytes: usize) -> Self {
        Self { inner, max_message_bytes }
    }
}

impl<S: NamedService> NamedService for FramedService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for FramedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Err(error) = check_encoding(request.headers()) {
            let mut status = error.to_status();
            status.metadata_mut().insert(ACCEPT_ENCODING, MetadataValue::from_static(ACCEPTED));
            return Either::Right(ready_future(Ok(status.into_http())));
        }
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let max_messages = if STREAMING_METHODS.contains(&method) { u64::MAX } else { 1 };
        let parser = MessageParser::new(max_messages, self.max_message_bytes);
        let request = request.map(|body| Body::new(FramedBody { body, parser }));
        Either::Left(self.inner.call(request))
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), RequestError> {
    match headers.get(ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(RequestError::new(ErrorReason::CompressionUnsupported)
                .field(ENCODING)
                .value(String::from_utf8_lossy(encoding.as_bytes()))
                .limit(ACCEPTED))
        }
        _ => Ok(()),
    }
}

/// Checks whether a body may end with `status`.
///
/// The errors of this crate have details. The others are tonic's reading of a broken stream or
/// connection, for example `INTERNAL`. `CANCELLED` is a client that has left. tonic reads it as the
/// end of the body.
fn check_end(status: &Status, parser: &mut MessageParser) -> Result<(), RequestError> {
    match status.code() {
        _ if !status.details().is_empty() => Ok(()),
        Code::Cancelled => parser.finish(),
        _ => Err(unreadable(status.message())),
    }
}

/// A request body whose messages are checked.
#[derive(Debug)]
struct FramedBody {
    body: Body,
    parser: MessageParser,
}

impl HttpBody for FramedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, parser } = &mut *self;
        let polled = ready!(Pin::new(body).poll_frame(cx));
        let checked = match &polled {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => parser.advance(data),
                // Trailers end the body.
                None => parser.finish(),
            },
            Some(Err(status)) => check_end(status, parser),
            None => parser.finish(),
        };
        match checked {
            Ok(()) => Poll::Ready(polled),
            Err(error) => Poll::Ready(Some(Err(error.to_status()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        // The end is checked, too.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// Returns the code with which a body ends after `message` and `status`.
    async fn code_after(message: &'static [u8], status: Status) -> Code {
        let frames = [Ok(Frame::data(Bytes::from_static(message))), Err(status)];
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let mut body = FramedBody { body, parser: MessageParser::new(1, 100) };
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap_err().code()
    }

    async fn code_of(status: Status) -> Code {
        code_after(&[0, 0, 0, 0, 1, 7], status).await
    }

    #[tokio::test]
    async fn broken_stream_is_no_fault_of_the_server() {
        assert_eq!(code_of(Status::internal("h2 protocol error")).await, Code::InvalidArgument);
        assert_eq!(code_of(Status::unknown("connection reset")).await, Code::InvalidArgument);
        assert_eq!(code_of(Status::cancelled("stream reset")).await, Code::Cancelled);
        let timeout = RequestError::new(ErrorReason::UploadStalled).to_status();
        assert_eq!(code_of(timeout).await, Code::DeadlineExceeded);
    }

    // tonic reports a method without a message as an internal error.
    #[tokio::test]
    async fn cancelled_upload_is_no_fault_of_the_server() {
        for incomplete in [&[][..], &[0, 0], &[0, 0, 0, 0, 2, 7]] {
            let code = code_after(incomplete, Status::cancelled("stream reset")).await;
            assert_eq!(code, Code::InvalidArgument, "{incomplete:?}");
        }
    }
}
