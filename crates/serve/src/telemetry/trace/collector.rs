//! Which collector spans go to, and how.

use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::settings::{OtlpProtocol, TraceSettings, endpoint};

/// How long sending some spans may take where nobody says, as OpenTelemetry has it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What belongs behind the address of a collector that takes everything over HTTP.
const TRACES_PATH: &str = "/v1/traces";

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collector {
    /// The URL that they are sent to.
    pub(super) endpoint: String,
    pub(super) protocol: OtlpProtocol,
    /// The authorities whose certificates are trusted instead of the public ones, a file in PEM.
    pub(super) authorities: Option<String>,
    /// How long sending some of them may take.
    pub(super) timeout: Duration,
    /// Whether the environment says what this service is called.
    pub(super) service_is_named: bool,
}

impl Collector {
    /// The collector that the settings name, or else the standard `variable`s of the environment; none if neither does.
    ///
    /// # Errors
    /// What is wrong with the variables.
    pub(super) fn chosen(
        settings: &TraceSettings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        // What is said of traces wins over what is said of everything.
        let exporting = |name: &str| {
            [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
                .into_iter()
                .find_map(|name| Some((variable(&name)?, name)))
        };
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let own = settings.otlp_endpoint.clone().map(|url| (url, "trace.otlp_endpoint".to_owned()));
        let Some((url, name)) = own.or_else(|| exporting("ENDPOINT")) else { return Ok(None) };
        endpoint(&url).map_err(|reason| anyhow!("{name}: {reason}"))?;
        let protocol = match (settings.otlp_protocol, exporting("PROTOCOL")) {
            (Some(protocol), _) => protocol,
            (None, Some((text, name))) => {
                text.trim().parse().map_err(|reason| anyhow!("{name}: {reason}"))?
            }
            (None, None) => OtlpProtocol::default(),
        };
        let timeout = exporting("TIMEOUT")
            .map(|(text, name)| {
                let milliseconds = text.trim().parse().map(Duration::from_millis);
                milliseconds.with_context(|| format!("{name}: {text:?} is no number of milliseconds"))
            })
            .transpose()?;
        let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let service_is_named = variable("OTEL_SERVICE_NAME").is_some()
            || attributes.split(',').any(|attribute| attribute.trim_start().starts_with("service.name="));
        let is_whole = protocol == OtlpProtocol::Grpc || name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        Ok(Some(Self {
            endpoint: if is_whole { url } else { url.trim_end_matches('/').to_owned() + TRACES_PATH },
            protocol,
            authorities: exporting("CERTIFICATE").map(|(path, _)| path),
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            service_is_named,
        }))
    }

    /// The endpoint without what may be secret in it.
    pub(super) fn shown(&self) -> &str {
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
        let mut settings = crate::settings::Settings::default().trace;
        settings.otlp_endpoint = endpoint.map(str::to_owned);
        settings.otlp_protocol = protocol;
        settings
    }

    fn chosen(settings: &TraceSettings, variables: &[(&str, &str)]) -> anyhow::Result<Option<Collector>> {
        let variables: std::collections::HashMap<_, _> = variables.iter().copied().collect();
        Collector::chosen(settings, |name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn found(endpoint: Option<&str>, variables: &[(&str, &str)]) -> Option<Collector> {
        chosen(&settings(endpoint, None), variables).unwrap()
    }

    #[test]
    fn the_setting_wins_over_the_variable_for_traces_which_wins_over_the_one_for_everything() {
        let (all, traces) = ((ALL, "http://all:4317"), (TRACES, "http://traces:4317"));
        let endpoint = |setting, variables: &[_]| found(setting, variables).map(|found| found.endpoint);
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(None, &[all]).as_deref(), Some("http://all:4317"));
        assert_eq!(endpoint(None, &[all, traces]).as_deref(), Some("http://traces:4317"));
        assert_eq!(endpoint(Some("http://own:4317"), &[all, traces]).as_deref(), Some("http://own:4317"));
        assert_eq!(endpoint(None, &[(all.0, " ")]), None);
        assert_eq!(endpoint(Some("http://own:4317"), &[("OTEL_SDK_DISABLED", "True")]), None);
    }

    #[test]
    fn the_protocol_is_grpc_unless_the_setting_or_a_variable_says_otherwise() {
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let grpc = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        let protocol = |own, variables: &[_]| {
            chosen(&settings(Some("http://own"), own), variables).unwrap().unwrap().protocol
        };
        assert_eq!(protocol(None, &[]), OtlpProtocol::Grpc);
        assert_eq!(protocol(None, &[http]), OtlpProtocol::HttpProtobuf);
        assert_eq!(protocol(None, &[http, grpc]), OtlpProtocol::Grpc);
        assert_eq!(protocol(Some(OtlpProtocol::HttpProtobuf), &[grpc]), OtlpProtocol::HttpProtobuf);
    }

    #[test]
    fn over_http_the_path_of_traces_is_put_behind_all_but_the_url_that_is_of_traces_alone() {
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let endpoint = |setting, variable| found(setting, &[http, variable]).unwrap().endpoint;
        assert_eq!(endpoint(Some("http://own:4318"), (ALL, "")), "http://own:4318/v1/traces");
        assert_eq!(endpoint(None, (ALL, "https://all/otlp/")), "https://all/otlp/v1/traces");
        assert_eq!(endpoint(None, (TRACES, "https://traces/mine")), "https://traces/mine");
        assert_eq!(found(Some("http://own:4317"), &[]).unwrap().endpoint, "http://own:4317");
    }

    #[test]
    fn what_is_wrong_with_a_variable_is_told_with_its_name_and_no_secret_with_it() {
        let refusal =
            |variables: &[_]| format!("{:#}", chosen(&settings(None, None), variables).expect_err("wrong"));
        let all = (ALL, "http://all:4318");
        assert_eq!(
            refusal(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]),
            "OTEL_EXPORTER_OTLP_PROTOCOL: unknown protocol \"http/json\", expected grpc or http/protobuf"
        );
        assert!(refusal(&[all, ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]).contains("milliseconds"));
        let secret = refusal(&[(TRACES, "https://user:secret@collector:4317")]);
        assert!(secret.contains(TRACES) && !secret.contains("secret"), "{secret}");
    }

    #[test]
    fn sending_may_take_ten_seconds_or_what_a_variable_says() {
        let timeout = |variables: &[_]| found(Some("http://own:4317"), variables).unwrap().timeout;
        assert_eq!(timeout(&[]), Duration::from_secs(10));
        let all = ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500");
        assert_eq!(timeout(&[all]), Duration::from_millis(2500));
        assert_eq!(timeout(&[all, ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "70")]), Duration::from_millis(70));
    }

    #[test]
    fn the_environment_may_name_the_service_in_either_way() {
        let named = |variables: &[_]| found(Some("http://own:4317"), variables).unwrap().service_is_named;
        assert!(!named(&[("OTEL_RESOURCE_ATTRIBUTES", "team=shop")]));
        assert!(named(&[("OTEL_RESOURCE_ATTRIBUTES", "team=shop,service.name=vqa")]));
        assert!(named(&[("OTEL_SERVICE_NAME", "vqa")]));
    }

    #[test]
    fn what_may_be_secret_in_an_endpoint_is_not_shown() {
        assert_eq!(found(Some("https://collector:4317/x?token=1"), &[]).unwrap().shown(), "collector:4317");
    }
}
