//! The way to a collector: OTLP over gRPC or HTTP, and what is said when it fails.

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

use super::{collector::Collector, http_client::CollectorClient};
use crate::{settings::OtlpProtocol, telemetry::Occasionally};

/// How often it is told at most that spans do not arrive.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(60);

/// What sends spans to `collector`, with the headers that the environment names. To be called inside a runtime.
///
/// # Errors
/// What is wrong with them.
pub(super) fn exporter(collector: &Collector) -> anyhow::Result<impl Exporter + 'static> {
    let authorities = match &collector.authorities {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("cannot read the authorities in {path}"))?)
        }
        None => None,
    };
    let built = match collector.protocol {
        OtlpProtocol::Grpc => over_grpc(collector, authorities).map_err(anyhow::Error::from),
        OtlpProtocol::HttpProtobuf => over_http(collector, authorities),
    };
    let exporter = built.with_context(|| format!("cannot export traces to {}", collector.shown()))?;
    Ok(Patient { exporter, failed: Occasionally::every(COMPLAINT_PERIOD) })
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

/// An exporter that tells of its failures once a minute at most. Spans that do not arrive are lost.
#[derive(Debug)]
struct Patient<E> {
    exporter: E,
    failed: Occasionally,
}

impl<E: Exporter> Exporter for Patient<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if let Err(error) = self.exporter.export(batch).await
            && let Some(times) = self.failed.happened()
        {
            tracing::warn!(%error, times, "spans could not be exported");
        }
        // It has been told: the library would do so every time.
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
    struct Away;

    impl Exporter for Away {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(opentelemetry_sdk::error::OTelSdkError::InternalFailure("nobody is there".into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_is_away_is_told_of_once_a_minute() {
        let patient = Patient { exporter: Away, failed: Occasionally::every(COMPLAINT_PERIOD) };
        assert!(patient.export(Vec::new()).await.is_ok());
        for _ in 0..9 {
            assert!(patient.export(Vec::new()).await.is_ok());
        }
        tokio::time::advance(COMPLAINT_PERIOD).await;
        assert_eq!(patient.failed.happened(), Some(10));
    }
}
