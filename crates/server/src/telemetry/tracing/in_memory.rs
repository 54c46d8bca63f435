//! A span collector for tests, in memory.

use http::HeaderMap;
use opentelemetry::trace::{SpanBuilder, SpanKind};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

use crate::telemetry::tracing::{TraceScope, Tracing, propagation::extract, sampling::Sampling};

/// Records every span that has ended.
pub(crate) struct SpanRecorder {
    exporter: InMemorySpanExporter,
    tracing: Tracing,
}

impl SpanRecorder {
    /// Creates a recorder with this ratio of sampling.
    pub(crate) fn new(ratio: f64) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampling::new(ratio))
            .with_simple_exporter(exporter.clone())
            .build();
        Self { exporter, tracing: Tracing::with_provider(provider, true) }
    }

    pub(crate) fn tracing(&self) -> Tracing {
        self.tracing.clone()
    }

    /// Begins the span of a request with these headers.
    pub(crate) fn request(&self, headers: &HeaderMap) -> TraceScope {
        let span = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        self.tracing.begin(span, &extract(headers))
    }

    /// Returns all spans in the order in which they ended.
    pub(crate) fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }
}
