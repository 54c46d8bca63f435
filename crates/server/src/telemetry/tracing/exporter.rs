//! Builds the OTLP exporter, over gRPC or HTTP, and logs its failures.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter as Exporter},
};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::{
    config::sections::telemetry::OtlpProtocol,
    telemetry::{
        logging::throttle::LogThrottle,
        tracing::{collector::Collector, http_client::CollectorClient},
    },
};

/// The maximum size of a file of certificate authorities, in bytes.
const MAX_AUTHORITIES_BYTES: u64 = 16 << 20;

/// The minimum time between two log lines about failed exports.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Creates the exporter to `collector`, with the headers that the environment sets.
///
/// Must be called inside the tokio runtime.
///
/// # Errors
/// Unreadable certificates, or invalid options of the collector.
pub(crate) fn exporter(collector: &Collector) -> anyhow::Result<impl Exporter + 'static> {
    let authorities = match &collector.authorities {
        Some(path) => Some(
            regular_file::read(path.as_ref(), MAX_AUTHORITIES_BYTES)
                .with_context(|| format!("cannot read certificate authorities in {path}"))?,
        ),
        None => None,
    };
    let built = match collector.protocol {
        OtlpProtocol::Grpc => over_grpc(collector, authorities).map_err(anyhow::Error::from),
        OtlpProtocol::HttpProtobuf => over_http(collector, authorities),
    };
    let exporter = built.with_context(|| format!("cannot export traces to {}", collector.address()))?;
    Ok(ThrottledExporter { exporter, log_throttle: LogThrottle::every(LOG_PERIOD) })
}

fn over_grpc(
    collector: &Collector,
    authorities: Option<Vec<u8>>,
) -> Result<SpanExporter, opentelemetry_otlp::ExporterBuildError> {
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint.as_str())
        .with_timeout(collector.timeout);
    if collector.endpoint.starts_with("https://") {
        let tls = ClientTlsConfig::new();
        exporter = exporter.with_tls_config(match authorities {
            None => tls.with_webpki_roots(),
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        });
    }
    exporter.build()
}

fn over_http(collector: &Collector, authorities: Option<Vec<u8>>) -> anyhow::Result<SpanExporter> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(CollectorClient::new(authorities.as_deref(), collector.timeout)?)
        .with_endpoint(collector.endpoint.as_str())
        .with_timeout(collector.timeout);
    Ok(exporter.build()?)
}

/// An exporter that logs its failures at most once per minute. Spans of a failed export are lost.
#[derive(Debug)]
struct ThrottledExporter<E> {
    exporter: E,
    log_throttle: LogThrottle,
}

impl<E: Exporter> Exporter for ThrottledExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if let Err(error) = self.exporter.export(batch).await
            && let Some(count) = self.log_throttle.record()
        {
            tracing::warn!(%error, count, "span export failed");
        }
        // The library would log every failure that it receives.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Unreachable;

    impl Exporter for Unreachable {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(opentelemetry_sdk::error::OTelSdkError::InternalFailure("unreachable".into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failed_export_is_logged_once_per_minute() {
        let exporter =
            ThrottledExporter { exporter: Unreachable, log_throttle: LogThrottle::every(LOG_PERIOD) };
        assert!(exporter.export(Vec::new()).await.is_ok());
        for _ in 0..9 {
            assert!(exporter.export(Vec::new()).await.is_ok());
        }
        tokio::time::advance(LOG_PERIOD).await;
        assert_eq!(exporter.log_throttle.record(), Some(10));
    }
}
