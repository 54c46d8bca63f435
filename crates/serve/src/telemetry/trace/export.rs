//! Spans on their way out: a bounded queue, a thread of its own, and a collector that may be away.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};

use super::{TraceScope, collector::Collector, exporter::exporter, sampling::Sampling};
use crate::settings::{SchedulerSettings, TraceSettings};

/// How long the last spans may take to go out when the server stops.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Where traces go; nowhere by default. Clones share the way.
#[derive(Clone, Debug, Default)]
pub struct Tracing(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagate: bool,
}

impl Tracing {
    /// Traces as `settings` and the environment's `OTEL_` variables want them. To be called inside a runtime, which then
    /// carries the connection. Nothing is connected to before there is something to tell.
    ///
    /// # Errors
    /// What is wrong with the endpoint, or with the variables.
    pub fn new(settings: &TraceSettings, scheduler: &SchedulerSettings) -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(collector) = Collector::chosen(settings, variable)? else {
            return Ok(Self::default());
        };
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !collector.service_is_named {
            resource = resource.with_service_name("blip-serve");
        }
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampling::new(settings.sample_ratio.0))
            // A batch links every question in it.
            .with_max_links_per_span(u32::try_from(scheduler.max_batch_questions).unwrap_or(u32::MAX))
            .with_resource(resource.build())
            .with_batch_exporter(exporter(&collector)?)
            .build();
        tracing::info!(endpoint = %collector.shown(), protocol = %collector.protocol, ratio = %settings.sample_ratio, "exporting traces");
        Ok(Self::by(provider, !settings.propagation_off))
    }

    /// Traces by way of `provider`.
    pub(super) fn by(provider: SdkTracerProvider, propagate: bool) -> Self {
        let tracer = provider.tracer("blip-serve");
        Self(Some(Arc::new(Exporting { provider, tracer, propagate })))
    }

    /// Whether there is anyone to tell.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Opens the span of a request, below the span of its caller in `parent`.
    pub(super) fn begin(&self, span: SpanBuilder, parent: &Context) -> TraceScope {
        let Some(exporting) = &self.0 else { return TraceScope::default() };
        TraceScope::begin(&exporting.tracer, exporting.propagate, span, parent)
    }

    /// Sends what has not been sent yet, for three seconds at most, and nothing from then on.
    pub async fn finish(&self) {
        let Some(exporting) = self.0.clone() else { return };
        let flush =
            tokio::task::spawn_blocking(move || exporting.provider.shutdown_with_timeout(FLUSH_LIMIT));
        // The library keeps to the limit; this one holds if it should not.
        match tokio::time::timeout(2 * FLUSH_LIMIT, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not exported"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans were not exported"),
        }
    }
}
