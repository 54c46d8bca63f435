//! The way to a collector, by OTLP over gRPC.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter as Exporter},
};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::telemetry::Occasionally;

/// How often it is told at most that spans do not arrive.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(60);

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collector {
    endpoint: String,
    /// The authorities whose certificates are trusted instead of the public ones, in PEM.
    authorities: Option<String>,
    /// Whether the environment says what this service is called.
    pub(super) service_is_named: bool,
}

impl Collector {
    /// The collector that `setting` names, or else the standard `variable`s of the environment; none if neither does.
    pub(super) fn chosen(setting: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let variable = |name| variable(name).filter(|value| !value.trim().is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return None;
        }
        let endpoint = setting
            .map(str::to_owned)
            .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))?;
        let authorities = variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_CERTIFICATE"));
        let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let service_is_named = variable("OTEL_SERVICE_NAME").is_some()
            || attributes.split(',').any(|attribute| attribute.trim_start().starts_with("service.name="));
        Some(Self { endpoint, authorities, service_is_named })
    }

    /// The endpoint without what may be secret in it.
    pub(super) fn shown(&self) -> &str {
        let (scheme, rest) = self.endpoint.split_once("://").unwrap_or(("", &self.endpoint));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') || scheme.is_empty() { "(hidden)" } else { authority }
    }
}

/// What sends spans to `collector`, with the headers and the timeout that the environment names.
///
/// # Errors
/// What is wrong with them.
pub(super) fn exporter(collector: &Collector) -> anyhow::Result<impl Exporter + 'static> {
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(collector.endpoint.as_str());
    if collector.endpoint.starts_with("https://") {
        let tls = ClientTlsConfig::new();
        let tls = match &collector.authorities {
            None => tls.with_webpki_roots(),
            Some(path) => {
                let pem =
                    std::fs::read(path).with_context(|| format!("cannot read the authorities in {path}"))?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
        };
        exporter = exporter.with_tls_config(tls);
    }
    let exporter =
        exporter.build().with_context(|| format!("cannot export traces to {}", collector.shown()))?;
    Ok(Patient { exporter, failed: Occasionally::every(COMPLAINT_PERIOD) })
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

    fn chosen(setting: Option<&str>, variables: &[(&str, &str)]) -> Option<Collector> {
        let variables: std::collections::HashMap<_, _> = variables.iter().copied().collect();
        Collector::chosen(setting, |name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_setting_wins_over_the_variable_for_traces_which_wins_over_the_one_for_everything() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
        let endpoint = |setting, variables: &[_]| chosen(setting, variables).map(|found| found.endpoint);
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(None, &[all]).as_deref(), Some("http://all:4317"));
        assert_eq!(endpoint(None, &[all, traces]).as_deref(), Some("http://traces:4317"));
        assert_eq!(endpoint(Some("http://own:4317"), &[all, traces]).as_deref(), Some("http://own:4317"));
        assert_eq!(endpoint(None, &[(all.0, " ")]), None);
        assert_eq!(endpoint(Some("http://own:4317"), &[("OTEL_SDK_DISABLED", "True")]), None);
    }

    #[test]
    fn the_environment_may_name_the_service_in_either_way() {
        let named = |variables: &[_]| chosen(Some("http://own:4317"), variables).unwrap().service_is_named;
        assert!(!named(&[("OTEL_RESOURCE_ATTRIBUTES", "team=shop")]));
        assert!(named(&[("OTEL_RESOURCE_ATTRIBUTES", "team=shop,service.name=vqa")]));
        assert!(named(&[("OTEL_SERVICE_NAME", "vqa")]));
    }

    #[test]
    fn what_may_be_secret_in_an_endpoint_is_not_shown() {
        let shown = |endpoint| chosen(Some(endpoint), &[]).unwrap().shown().to_owned();
        assert_eq!(shown("https://collector:4317/x?token=1"), "collector:4317");
        assert_eq!(shown("https://user:secret@collector:4317"), "(hidden)");
    }

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
