//! Counts gRPC calls as they end, by method and code, hang-ups among them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Code, Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use super::call::Call;

/// The methods that are told apart; a stranger's inventions are one.
const METHODS: [&str; 11] = [
    "Ask",
    "AskStream",
    "Caption",
    "Match",
    "Embed",
    "ListModels",
    "GetModel",
    "LoadModel",
    "UnloadModel",
    "Check",
    "Watch",
];
const OTHER: &str = "other";

/// Makes [`Observed`] services.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObservedLayer;

impl<S> Layer<S> for ObservedLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner }
    }
}

/// A gRPC service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Observed<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Heading<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Some(begin(request.uri().path()));
        Heading { response: self.inner.call(request), call }
    }
}

/// The call of a path, cancelled unless its status comes by.
fn begin(path: &str) -> Call {
    Call::begin("grpc", method_of(path), label(Code::Cancelled))
}

/// The method of a path, if it is one of those that are told apart.
pub(crate) fn method_of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    METHODS.into_iter().find(|known| *known == name).unwrap_or(OTHER)
}

/// Notes the status, if these headers or trailers hold it.
fn see(call: &mut Call, headers: &HeaderMap) {
    if let Some(status) = Status::from_header_map(headers) {
        call.see(label(status.code()));
    }
}

pin_project! {
    /// A call up to its response headers.
    #[derive(Debug)]
    pub struct Heading<F> {
        #[pin]
        response: F,
        call: Option<Call>,
    }
}

impl<F, E> Future for Heading<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx))?;
        let Some(mut call) = this.call.take() else { return Poll::Ready(Ok(response)) };
        see(&mut call, response.headers());
        Poll::Ready(Ok(response.map(|body| Body::new(ObservedBody { body, call }))))
    }
}

/// A response body, up to its trailers.
#[derive(Debug)]
struct ObservedBody {
    body: Body,
    call: Call,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            see(&mut self.call, trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A code as a label's value.
fn label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::code_name;

    #[test]
    fn a_label_is_the_codes_own_name() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            assert_eq!(label(code), code_name(code));
        }
    }

    #[test]
    fn methods_that_nobody_has_are_one_label() {
        assert_eq!(begin("/blip.v1.BlipService/Ask").method(), "Ask");
        assert_eq!(begin("/a.stranger/Invention").method(), OTHER);
        assert_eq!(begin("").method(), OTHER);
    }
}
