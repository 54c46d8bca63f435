//! The collector that spans are exported to, from the settings and the `OTEL_` variables.

use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::config::sections::telemetry::{OtlpProtocol, TraceSettings, endpoint};

/// The default timeout of one export, as OpenTelemetry specifies it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The path for traces below a general OTLP endpoint over HTTP.
const TRACES_PATH: &str = "/v1/traces";

/// The address and the options of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collector {
    /// The URL for spans.
    pub(crate) endpoint: String,
    pub(crate) protocol: OtlpProtocol,
    /// A PEM file of certificate authorities that replace the public ones.
    pub(crate) authorities: Option<String>,
    /// The timeout of one export.
    pub(crate) timeout: Duration,
    /// Whether the environment sets the name of the service.
    pub(crate) has_service_name: bool,
}

impl Collector {
    /// Returns the collector in the settings, or else in the standard environment variables.
    ///
    /// Returns `None` if neither names one. `variable` returns the value of a variable.
    ///
    /// # Errors
    /// An invalid value, with the name of its setting or variable.
    pub(crate) fn from_settings(
        settings: &TraceSettings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        // A variable for traces takes precedence over the general one.
        let otlp = |name: &str| {
            [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
                .into_iter()
                .find_map(|name| Some((variable(&name)?, name)))
        };
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let setting = settings.otlp_endpoint.clone().map(|url| (url, "trace.otlp_endpoint".to_owned()));
        let Some((url, name)) = setting.or_else(|| otlp("ENDPOINT")) else { return Ok(None) };
        endpoint(&url).map_err(|reason| anyhow!("{name}: {reason}"))?;
        let protocol = match (settings.otlp_protocol, otlp("PROTOCOL")) {
            (Some(protocol), _) => protocol,
            (None, Some((text, name))) => {
                text.trim().parse().map_err(|reason| anyhow!("{name}: {reason}"))?
            }
            (None, None) => OtlpProtocol::default(),
        };
        let timeout = otlp("TIMEOUT")
            .map(|(text, name)| {
                let milliseconds = text.trim().parse().map(Duration::from_millis);
                milliseconds.with_context(|| format!("{name}: invalid number of milliseconds {text:?}"))
            })
            .transpose()?;
        let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let has_service_name = variable("OTEL_SERVICE_NAME").is_some()
            || attributes.split(',').any(|attribute| attribute.trim_start().starts_with("service.name="));
        let is_complete = protocol == OtlpProtocol::Grpc || name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        Ok(Some(Self {
            endpoint: if is_complete { url } else { url.trim_end_matches('/').to_owned() + TRACES_PATH },
            protocol,
            authorities: otlp("CERTIFICATE").map(|(path, _)| path),
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            has_service_name,
        }))
    }

    /// Returns the host and port of the endpoint, without parts that may be secret.
    pub(crate) fn address(&self) -> &str {
        let (_, rest) = self.endpoint.split_once("://").unwrap_or(("", &self.endpoint));
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

    fn settings(endpoint: Option<&str>, protocol: Option<OtlpProtocol>) -> TraceSettings {
        let mut settings = crate::config::Settings::default().trace;
        settings.otlp_endpoint = endpoint.map(str::to_owned);
        settings.otlp_protocol = protocol;
        settings
    }

    fn collector(settings: &TraceSettings, variables: &[(&str, &str)]) -> anyhow::Result<Option<Collector>> {
        let variables: std::collections::HashMap<_, _> = variables.iter().copied().collect();
        Collector::from_settings(settings, |name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn found(endpoint: Option<&str>, variables: &[(&str, &str)]) -> Option<Collector> {
        collector(&settings(endpoint, None), variables).unwrap()
    }

    #[test]
    fn precedence_is_setting_traces_variable_general_variable() {
        let (all, traces) = ((ALL, "http://all:4317"), (TRACES, "http://traces:4317"));
        let endpoint = |setting, variables: &[_]| found(setting, variables).map(|found| found.endpoint);
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(None, &[all]).as_deref(), Some("http://all:4317"));
        assert_eq!(endpoint(None, &[all, traces]).as_deref(), Some("http://traces:4317"));
        assert_eq!(
            endpoint(Some("http://setting:4317"), &[all, traces]).as_deref(),
            Some("http://setting:4317")
        );
        assert_eq!(endpoint(None, &[(all.0, " ")]), None);
        assert_eq!(endpoint(Some("http://setting:4317"), &[("OTEL_SDK_DISABLED", "True")]), None);
    }

    #[test]
    fn protocol_defaults_to_grpc() {
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let grpc = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        let protocol = |setting, variables: &[_]| {
            collector(&settings(Some("http://setting"), setting), variables).unwrap().unwrap().protocol
        };
        assert_eq!(protocol(None, &[]), OtlpProtocol::Grpc);
        assert_eq!(protocol(None, &[http]), OtlpProtocol::HttpProtobuf);
        assert_eq!(protocol(None, &[http, grpc]), OtlpProtocol::Grpc);
        assert_eq!(protocol(Some(OtlpProtocol::HttpProtobuf), &[grpc]), OtlpProtocol::HttpProtobuf);
    }

    #[test]
    fn http_endpoint_gets_the_traces_path_unless_it_is_for_traces() {
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let endpoint = |setting, variable| found(setting, &[http, variable]).unwrap().endpoint;
        assert_eq!(endpoint(Some("http://setting:4318"), (ALL, "")), "http://setting:4318/v1/traces");
        assert_eq!(endpoint(None, (ALL, "https://all/otlp/")), "https://all/otlp/v1/traces");
        assert_eq!(endpoint(None, (TRACES, "https://traces/mine")), "https://traces/mine");
        assert_eq!(found(Some("http://setting:4317"), &[]).unwrap().endpoint, "http://setting:4317");
    }

    #[test]
    fn error_names_the_variable_without_its_secret() {
        let error = |variables: &[_]| {
            format!("{:#}", collector(&settings(None, None), variables).expect_err("wrong"))
        };
        let all = (ALL, "http://all:4318");
        assert_eq!(
            error(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]),
            "OTEL_EXPORTER_OTLP_PROTOCOL: unknown protocol \"http/json\", expected grpc or http/protobuf"
        );
        assert!(error(&[all, ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]).contains("milliseconds"));
        let secret = error(&[(TRACES, "https://user:secret@collector:4317")]);
        assert!(secret.contains(TRACES) && !secret.contains("secret"), "{secret}");
    }

    #[test]
    fn timeout_defaults_to_ten_seconds() {
        let timeout = |variables: &[_]| found(Some("http://setting:4317"), variables).unwrap().timeout;
        assert_eq!(timeout(&[]), Duration::from_secs(10));
        let all = ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500");
        assert_eq!(timeout(&[all]), Duration::from_millis(2500));
        assert_eq!(timeout(&[all, ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "70")]), Duration::from_millis(70));
    }

    #[test]
    fn service_name_is_read_from_either_variable() {
        let named = |variables: &[_]| found(Some("http://setting:4317"), variables).unwrap().has_service_name;
        assert!(!named(&[("OTEL_RESOURCE_ATTRIBUTES", "team=shop")]));
        assert!(named(&[("OTEL_RESOURCE_ATTRIBUTES", "team=shop,service.name=vqa")]));
        assert!(named(&[("OTEL_SERVICE_NAME", "vqa")]));
    }

    #[test]
    fn address_omits_the_secret_parts_of_the_endpoint() {
        assert_eq!(found(Some("https://collector:4317/x?token=1"), &[]).unwrap().address(), "collector:4317");
    }
}
