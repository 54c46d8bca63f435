//! What every request is given, whatever protocol brings it: a name, a line in the log, and a span where it is traced.

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

use super::{
    Occasionally, REQUEST_ID, RequestId,
    target::{Ending, Protocol, Target},
    trace::{TraceScope, Tracing, remote_trace_id},
};

/// How often requests that failed are warned of at most: a caller can make some fail whenever he likes.
const WARNING_PERIOD: Duration = Duration::from_secs(1);

/// Makes [`Telemetry`] services. It is the outermost layer: refusals are told of, too.
#[derive(Clone, Debug)]
pub struct TelemetryLayer {
    protocol: Protocol,
    tracing: Tracing,
    failed: Arc<Occasionally>,
}

impl TelemetryLayer {
    /// A layer for a listener that speaks `protocol`, with traces by way of `tracing`.
    #[must_use]
    pub fn new(protocol: Protocol, tracing: Tracing) -> Self {
        Self { protocol, tracing, failed: Arc::new(Occasionally::every(WARNING_PERIOD)) }
    }
}

impl<S> Layer<S> for TelemetryLayer {
    type Service = Telemetry<S>;

    fn layer(&self, inner: S) -> Telemetry<S> {
        Telemetry { inner, layer: self.clone() }
    }
}

/// A service whose requests have names, and are told of. Of a request that is traced, the extensions hold a
/// [`TraceScope`].
#[derive(Clone, Debug)]
pub struct Telemetry<S> {
    inner: S,
    layer: TelemetryLayer,
}

impl<S, B, R> Service<Request<B>> for Telemetry<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ToldBody<R>>;
    type Error = S::Error;
    type Future = Heading<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let told = Told::begin(&self.layer, &request);
        if told.trace.is_on() {
            request.extensions_mut().insert(told.trace.clone());
        }
        let response = told.work(|| self.inner.call(request));
        Heading { response, told: Some(told) }
    }
}

/// A request that is told of when it is over.
#[derive(Debug)]
struct Told {
    id: RequestId,
    target: Target,
    ending: Ending,
    begin: Instant,
    /// Of the log: it is there only where lines of level info are wanted.
    span: Span,
    trace: TraceScope,
    failed: Arc<Occasionally>,
}

impl Told {
    fn begin<B>(layer: &TelemetryLayer, request: &Request<B>) -> Self {
        let TelemetryLayer { protocol, tracing, failed } = layer;
        let id = RequestId::of(request.headers());
        let target = Target::new(*protocol, request.method(), request.uri().path(), request.extensions());
        let trace = tracing.serve(&target, request.uri().path(), request.headers(), &id);
        let span = tracing::info_span!("request", request_id = %id, trace_id = Empty);
        if !span.is_disabled()
            && let Some(trace_id) = trace.id().or_else(|| remote_trace_id(request.headers()))
        {
            span.record("trace_id", tracing::field::display(trace_id));
        }
        let (ending, begin, failed) = (Ending::left(*protocol), Instant::now(), Arc::clone(failed));
        Self { id, target, ending, begin, span, trace, failed }
    }

    /// Does a piece of the request's work.
    fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        self.id.scope(|| self.span.in_scope(work))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let Self { id, target, ending, begin, span, trace, failed } = self;
        trace.end_server_span(*ending);
        let faults = if ending.is_fault() { failed.happened() } else { None };
        let Some(requests) = faults else {
            let _inside = span.enter();
            tracing::info!(request = %target, status = %ending, ms = milliseconds(*begin), "request ended");
            return;
        };
        // Faults are told of even where nothing else is, and their lines name the request as others do.
        let named = || match trace.id() {
            Some(trace_id) => tracing::error_span!("request", request_id = %id, trace_id = %trace_id),
            None => tracing::error_span!("request", request_id = %id),
        };
        let span = if span.is_disabled() { named() } else { span.clone() };
        let _inside = span.enter();
        let ms = milliseconds(*begin);
        tracing::warn!(request = %target, status = %ending, ms, requests, "requests failed, this one among them");
    }
}

/// To the microsecond.
fn milliseconds(begin: Instant) -> f64 {
    (begin.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

pin_project! {
    /// A request up to its response headers.
    #[derive(Debug)]
    pub struct Heading<F> {
        #[pin]
        response: F,
        told: Option<Told>,
    }
}

impl<F, R, E> Future for Heading<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ToldBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(told) = this.told else {
            return this.response.poll(cx).map_ok(|response| response.map(ToldBody::untold));
        };
        let mut response = ready!(told.work(|| this.response.poll(cx)))?;
        response.headers_mut().insert(REQUEST_ID, told.id.to_header());
        match &mut told.ending {
            Ending::Http(status) => *status = Some(response.status()),
            ending @ Ending::Grpc(_) => ending.see(response.headers()),
        }
        let told = this.told.take();
        Poll::Ready(Ok(response.map(|body| ToldBody { body, told })))
    }
}

pin_project! {
    /// A response body, up to its end or its trailers.
    #[derive(Debug)]
    pub struct ToldBody<B> {
        #[pin]
        body: B,
        told: Option<Told>,
    }
}

impl<B> ToldBody<B> {
    fn untold(body: B) -> Self {
        Self { body, told: None }
    }
}

impl<B: HttpBody> HttpBody for ToldBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let Some(told) = this.told else { return this.body.poll_frame(cx) };
        let frame = ready!(told.work(|| this.body.poll_frame(cx)));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            told.ending.see(trailers);
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
