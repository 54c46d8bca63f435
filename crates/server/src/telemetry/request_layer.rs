//! The outermost layer of every protocol.
//!
//! It gives each request an id, a log line at its end, and a span.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Span, field::Empty};

use crate::{
    request_id::{REQUEST_ID, RequestId},
    telemetry::{
        logging::throttle::LogThrottle,
        request_target::{Protocol, RequestStatus, RequestTarget},
        tracing::{TraceScope, Tracing, remote_trace_id},
    },
};

/// The minimum time between two warnings about failed requests.
///
/// Clients can cause such failures at will.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// Creates [`TelemetryService`]s.
///
/// As the outermost layer, it also logs requests that other layers reject.
#[derive(Clone, Debug)]
pub struct TelemetryLayer {
    protocol: Protocol,
    tracing: Tracing,
    log_throttle: Arc<LogThrottle>,
}

impl TelemetryLayer {
    /// Creates the layer of a listener.
    #[must_use]
    pub fn new(protocol: Protocol, tracing: Tracing) -> Self {
        Self { protocol, tracing, log_throttle: Arc::new(LogThrottle::every(LOG_PERIOD)) }
    }
}

impl<S> Layer<S> for TelemetryLayer {
    type Service = TelemetryService<S>;

    fn layer(&self, inner: S) -> TelemetryService<S> {
        TelemetryService { inner, layer: self.clone() }
    }
}

/// A service whose requests are logged and traced.
///
/// It stores a [`TraceScope`] in the extensions of each traced request.
#[derive(Clone, Debug)]
pub struct TelemetryService<S> {
    inner: S,
    layer: TelemetryLayer,
}

impl<S, B, R> Service<Request<B>> for TelemetryService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<RecordedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let record = RequestRecord::begin(&self.layer, &request);
        if record.trace.is_on() {
            request.extensions_mut().insert(record.trace.clone());
        }
        let response = record.scope(|| self.inner.call(request));
        ResponseFuture { response, record: Some(record) }
    }
}

/// A request in progress. It is logged when it is dropped.
#[derive(Debug)]
struct RequestRecord {
    id: RequestId,
    target: RequestTarget,
    status: RequestStatus,
    begin: Instant,
    /// The span for log lines. It is disabled if the log filter excludes the level `info`.
    span: Span,
    trace: TraceScope,
    log_throttle: Arc<LogThrottle>,
}

impl RequestRecord {
    fn begin<B>(layer: &TelemetryLayer, request: &Request<B>) -> Self {
        let TelemetryLayer { protocol, tracing, log_throttle } = layer;
        let id = RequestId::of(request.headers());
        let target =
            RequestTarget::new(*protocol, request.method(), request.uri().path(), request.extensions());
        let trace = tracing.begin_request(&target, request.uri().path(), request.headers(), &id);
        let span = tracing::info_span!("request", request_id = %id, trace_id = Empty);
        if !span.is_disabled()
            && let Some(trace_id) = trace.id().or_else(|| remote_trace_id(request.headers()))
        {
            span.record("trace_id", tracing::field::display(trace_id));
        }
        let (status, begin) = (RequestStatus::cancelled(*protocol), Instant::now());
        Self { id, target, status, begin, span, trace, log_throttle: Arc::clone(log_throttle) }
    }

    /// Does work for the request, so that its log lines have the request's ids.
    fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.id.scope(|| self.span.in_scope(work))
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let Self { id, target, status, begin, span, trace, log_throttle } = self;
        trace.end_request(*status);
        let faults = if status.is_server_fault() { log_throttle.record() } else { None };
        let Some(count) = faults else {
            let _entered = span.enter();
            tracing::info!(request = %target, %status, ms = milliseconds(*begin), "request ended");
            return;
        };
        // The warning has the request's ids even if the filter disables the request's span.
        let error_span = || match trace.id() {
            Some(trace_id) => tracing::error_span!("request", request_id = %id, trace_id = %trace_id),
            None => tracing::error_span!("request", request_id = %id),
        };
        let span = if span.is_disabled() { error_span() } else { span.clone() };
        let _entered = span.enter();
        let ms = milliseconds(*begin);
        tracing::warn!(request = %target, %status, ms, count, "requests failed");
    }
}

/// Returns the milliseconds since `begin`, rounded to microseconds.
fn milliseconds(begin: Instant) -> f64 {
    (begin.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

pin_project! {
    /// The future of a response. It also records the status.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        response: F,
        record: Option<RequestRecord>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<RecordedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(record) = this.record else {
            return this.response.poll(cx).map_ok(|response| response.map(RecordedBody::unrecorded));
        };
        let mut response = ready!(record.scope(|| this.response.poll(cx)))?;
        response.headers_mut().insert(REQUEST_ID, record.id.to_header());
        match &mut record.status {
            RequestStatus::Http(status) => *status = Some(response.status()),
            status @ RequestStatus::Grpc(_) => status.update(response.headers()),
        }
        let record = this.record.take();
        Poll::Ready(Ok(response.map(|body| RecordedBody { body, record })))
    }
}

pin_project! {
    /// A response body. Its request ends when the body is dropped.
    #[derive(Debug)]
    pub struct RecordedBody<B> {
        #[pin]
        body: B,
        record: Option<RequestRecord>,
    }
}

impl<B> RecordedBody<B> {
    fn unrecorded(body: B) -> Self {
        Self { body, record: None }
    }
}

impl<B: HttpBody> HttpBody for RecordedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let Some(record) = this.record else { return this.body.poll_frame(cx) };
        let frame = ready!(record.scope(|| this.body.poll_frame(cx)));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            record.status.update(trailers);
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
