//! A collector in this process, for tests.

use http::HeaderMap;
use opentelemetry::trace::{SpanBuilder, SpanKind};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

use super::{TraceScope, Tracing, propagation::extract, sampling::Sampling};

/// Keeps every span that has ended.
pub(crate) struct Recorder {
    exporter: InMemorySpanExporter,
    tracing: Tracing,
}

impl Recorder {
    /// Of requests whose callers say nothing about it, this part is recorded.
    pub(crate) fn new(ratio: f64) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampling::new(ratio))
            .with_simple_exporter(exporter.clone())
            .build();
        Self { exporter, tracing: Tracing::by(provider, true) }
    }

    pub(crate) fn tracing(&self) -> Tracing {
        self.tracing.clone()
    }

    /// The span of a request with these headers.
    pub(crate) fn request(&self, headers: &HeaderMap) -> TraceScope {
        let span = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        self.tracing.begin(span, &extract(headers))
    }

    /// All spans, in the order in which they ended.
    pub(crate) fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }
}
