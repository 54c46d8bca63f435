//! The pipeline from spans to the collector: a bounded queue and a dedicated thread.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};

use crate::{
    config::sections::{
        scheduler::{CUDA_BATCH, SchedulerSettings},
        telemetry::TraceSettings,
    },
    telemetry::tracing::{TraceScope, collector::Collector, exporter::exporter, sampling::Sampling},
};

/// The time limit for exporting the last spans when the server stops.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Creates spans and exports them. Clones share the exporter. The default is off.
#[derive(Clone, Debug, Default)]
pub struct Tracing(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagate: bool,
}

impl Tracing {
    /// Sets up tracing from `settings` and the `OTEL_` variables of the environment.
    ///
    /// Must be called inside the tokio runtime, on which the connection to the collector runs. The
    /// exporter connects when the first spans are ready.
    ///
    /// # Errors
    /// An invalid endpoint or variable.
    pub fn new(settings: &TraceSettings, scheduler: &SchedulerSettings) -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(collector) = Collector::from_settings(settings, variable)? else {
            return Ok(Self::default());
        };
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !collector.has_service_name {
            resource = resource.with_service_name("blip-serve");
        }
        // Without a setting, the limit depends on the device.
        let most_questions = scheduler.batch_limits(CUDA_BATCH).max_questions;
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampling::new(settings.sample_ratio.0))
            // The span of a batch links to each of its items.
            .with_max_links_per_span(u32::try_from(most_questions).unwrap_or(u32::MAX))
            .with_resource(resource.build())
            .with_batch_exporter(exporter(&collector)?)
            .build();
        tracing::info!(
            endpoint = %collector.address(),
            protocol = %collector.protocol,
            ratio = %settings.sample_ratio,
            "trace export enabled"
        );
        Ok(Self::with_provider(provider, settings.propagation))
    }

    /// Creates spans with `provider`.
    pub(crate) fn with_provider(provider: SdkTracerProvider, propagate: bool) -> Self {
        let tracer = provider.tracer("blip-serve");
        Self(Some(Arc::new(Inner { provider, tracer, propagate })))
    }

    /// Returns whether traces are exported.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of a request, below the client's span in `parent`.
    pub(crate) fn begin(&self, span: SpanBuilder, parent: &Context) -> TraceScope {
        let Some(inner) = &self.0 else { return TraceScope::default() };
        TraceScope::begin(&inner.tracer, inner.propagate, span, parent)
    }

    /// Exports the remaining spans within three seconds, and stops the exporter.
    pub async fn finish(&self) {
        let Some(inner) = self.0.clone() else { return };
        let flush = tokio::task::spawn_blocking(move || inner.provider.shutdown_with_timeout(FLUSH_LIMIT));
        // The outer timeout applies only if the library exceeds its limit.
        match tokio::time::timeout(2 * FLUSH_LIMIT, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "last spans lost"),
            Ok(Err(_)) | Err(_) => tracing::warn!("last spans lost"),
        }
    }
}
