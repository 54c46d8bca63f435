//! Settings of metrics, logs and traces.

use std::{fmt, str::FromStr};

use clap::{ArgAction, Args};
use http::Uri;

use crate::config::sections::http::Listen;

/// The listener of metrics and health.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsSettings {
    /// Address and port of metrics and health, or `off`
    ///
    /// Serves /metrics, /livez, /readyz, /healthz and /log-filter, always in plain text and without
    /// keys. Port 0 selects a free port. The server prints it when it is ready.
    #[arg(
        long,
        value_name = "ADDRESS|off",
        env = "BLIP_SERVE__METRICS__LISTEN",
        default_value = "127.0.0.1:9090"
    )]
    pub metrics_listen: Listen,

    /// Maximum number of connections for metrics and health
    ///
    /// A further connection replaces the oldest one.
    #[arg(
        long,
        value_name = "N",
        env = "BLIP_SERVE__METRICS__MAX_CONNECTIONS",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub metrics_max_connections: u32,
}

/// Contents of the log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct LogSettings {
    /// Log every question with its answer, at level info
    ///
    /// Without this setting, the log contains no texts of clients.
    #[arg(long, env = "BLIP_SERVE__LOG__CONTENT")]
    pub log_content: bool,
}

/// Export of spans by OTLP.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tracing")]
pub struct TraceSettings {
    /// OTLP collector that receives spans, such as `http://127.0.0.1:4317`
    ///
    /// [default: that of OTEL_EXPORTER_OTLP_ENDPOINT, or no tracing]
    #[arg(long, value_name = "URL", env = "BLIP_SERVE__TRACE__OTLP_ENDPOINT", value_parser = endpoint)]
    pub otlp_endpoint: Option<String>,

    /// Protocol of the collector
    ///
    /// `grpc` uses port 4317 by convention. `http/protobuf` uses port 4318 by convention, and the
    /// server appends /v1/traces to the URL.
    ///
    /// [default: that of OTEL_EXPORTER_OTLP_PROTOCOL, or grpc]
    #[arg(long, value_name = "grpc|http/protobuf", env = "BLIP_SERVE__TRACE__OTLP_PROTOCOL")]
    pub otlp_protocol: Option<OtlpProtocol>,

    /// Fraction of requests that are traced, from 0 to 1
    ///
    /// Applies to requests without a traceparent, which decides otherwise.
    #[arg(
        long = "trace-sample-ratio",
        value_name = "RATIO",
        env = "BLIP_SERVE__TRACE__SAMPLE_RATIO",
        default_value = "1"
    )]
    pub sample_ratio: Ratio,

    /// Send traceparent to the servers from which images are fetched
    #[arg(
        long = "trace-propagation",
        env = "BLIP_SERVE__TRACE__PROPAGATION",
        default_value_t = true,
        action = ArgAction::Set
    )]
    pub propagation: bool,
}

/// The protocol that sends spans to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    #[default]
    Grpc,
    /// HTTP with protobuf.
    HttpProtobuf,
}

impl FromStr for OtlpProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            _ => Err(format!("unknown protocol {text:?}, expected grpc or http/protobuf")),
        }
    }
}

impl fmt::Display for OtlpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        })
    }
}

/// A fraction from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            text.parse().map_err(|_| format!("invalid ratio {text:?}, expected a number from 0 to 1"))?;
        if (0.0..=1.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("invalid ratio {text}, expected a number from 0 to 1"))
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses the URL of a collector.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let invalid = |cause| format!("{cause}, expected a URL such as http://127.0.0.1:4317");
    let uri: Uri = text.parse().map_err(|_| invalid("not a URL"))?;
    let authority = uri.authority().ok_or_else(|| invalid("no host"))?;
    match uri.scheme_str() {
        Some("http" | "https") if authority.as_str().contains('@') => {
            Err(invalid("credentials not allowed (use OTEL_EXPORTER_OTLP_HEADERS)"))
        }
        Some("http" | "https") => Ok(text.to_owned()),
        _ => Err(invalid("scheme not http or https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_from_0_to_1() {
        for (text, ratio) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0)] {
            assert_eq!(text.parse(), Ok(Ratio(ratio)));
        }
        for text in ["-0.1", "1.1", "NaN", "inf", "half", ""] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    #[test]
    fn protocol_is_grpc_or_http_protobuf() {
        for text in ["grpc", "http/protobuf"] {
            assert_eq!(text.parse::<OtlpProtocol>().unwrap().to_string(), text);
        }
        let message = "http/json".parse::<OtlpProtocol>().unwrap_err();
        assert!(message.contains("http/json") && message.contains("http/protobuf"), "{message}");
    }

    #[test]
    fn endpoint_is_a_url_without_credentials() {
        for good in ["http://127.0.0.1:4317", "https://otlp.example.org"] {
            assert_eq!(endpoint(good).as_deref(), Ok(good));
        }
        for bad in ["127.0.0.1:4317", "/v1/traces", "ftp://example.org", "http://user:key@example.org", ""] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
