//! Tower middleware that counts gRPC calls by method and code, cancelled ones included.

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

use crate::telemetry::metrics::call_record::CallRecord;

/// The methods that have a label. All others share the label [`OTHER`].
const METHODS: [&str; 17] = [
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
    "ModelInfer",
    "ModelReady",
    "ModelMetadata",
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
];
const OTHER: &str = "other";

/// Creates [`MeteredService`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricsLayer;

impl<S> Layer<S> for MetricsLayer {
    type Service = MeteredService<S>;

    fn layer(&self, inner: S) -> MeteredService<S> {
        MeteredService { inner }
    }
}

/// A gRPC service whose calls are counted.
#[derive(Clone, Debug)]
pub struct MeteredService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for MeteredService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Some(begin(request.uri().path()));
        ResponseFuture { response: self.inner.call(request), call }
    }
}

/// Begins the record of a call. Its code is `CANCELLED` until a status is known.
fn begin(path: &str) -> CallRecord {
    CallRecord::begin("grpc", method_of(path), label(Code::Cancelled))
}

/// Returns the label for the method of a path.
pub(crate) fn method_of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    METHODS.into_iter().find(|known| *known == name).unwrap_or(OTHER)
}

/// Sets the code of the call, if these headers or trailers contain a status.
fn update_code(call: &mut CallRecord, headers: &HeaderMap) {
    if let Some(status) = Status::from_header_map(headers) {
        call.set_code(label(status.code()));
    }
}

pin_project! {
    /// The future of a response. It also records the status.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        response: F,
        call: Option<CallRecord>,
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx))?;
        let Some(mut call) = this.call.take() else { return Poll::Ready(Ok(response)) };
        update_code(&mut call, response.headers());
        Poll::Ready(Ok(response.map(|body| Body::new(MeteredBody { body, call }))))
    }
}

/// A response body. Its call is counted when the body is dropped.
#[derive(Debug)]
struct MeteredBody {
    body: Body,
    call: CallRecord,
}

impl HttpBody for MeteredBody {
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
            update_code(&mut self.call, trailers);
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

/// Returns the name of a code as the value of a label.
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
    use crate::error::code_name;

    #[test]
    fn label_is_the_name_of_the_code() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            assert_eq!(label(code), code_name(code));
        }
    }

    #[test]
    fn unknown_methods_share_one_label() {
        assert_eq!(begin("/blip.v1.BlipService/Ask").method(), "Ask");
        assert_eq!(begin("/unknown.Service/Unknown").method(), OTHER);
        assert_eq!(begin("").method(), OTHER);
    }
}
