//! Settings of logs and traces.

use std::{fmt, str::FromStr};

use clap::Args;
use http::Uri;

/// What log lines hold.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogSettings {
    /// Log every question with its answer, at level info: texts of callers, which nothing else logs
    #[arg(long, env = "BLIP_SERVE__LOG__CONTENT")]
    pub log_content: bool,
}

/// Spans of requests, by OTLP.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Traces")]
pub struct TraceSettings {
    /// The collector that spans are sent to by OTLP, such as `http://127.0.0.1:4317`
    /// [default: that of OTEL_EXPORTER_OTLP_ENDPOINT; without either, nothing is traced]
    #[arg(long, value_name = "URL", env = "BLIP_SERVE__TRACE__OTLP_ENDPOINT", value_parser = endpoint)]
    pub otlp_endpoint: Option<String>,

    /// How: `grpc`, to port 4317 by custom, or `http/protobuf`, to port 4318, with /v1/traces put behind the URL
    /// [default: that of OTEL_EXPORTER_OTLP_PROTOCOL, or else grpc]
    #[arg(long, value_name = "grpc|http/protobuf", env = "BLIP_SERVE__TRACE__OTLP_PROTOCOL")]
    pub otlp_protocol: Option<OtlpProtocol>,

    /// The part of requests that is traced, of those whose callers do not say in their traceparent whether they are, 0 to 1
    #[arg(
        long = "trace-sample-ratio",
        value_name = "RATIO",
        env = "BLIP_SERVE__TRACE__SAMPLE_RATIO",
        default_value = "1"
    )]
    pub sample_ratio: Ratio,

    /// Send no traceparent to the servers that images are fetched from
    #[arg(long = "trace-propagation-off", env = "BLIP_SERVE__TRACE__PROPAGATION_OFF")]
    pub propagation_off: bool,
}

/// What carries spans to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    #[default]
    Grpc,
    /// Protocol buffers in HTTP requests.
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

/// A part of a whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().map_err(|_| format!("{text:?} is no number from 0 to 1"))?;
        if (0.0..=1.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{text} is not from 0 to 1"))
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An endpoint as it is written, if it can be one and holds no secret.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let refused = |cause| format!("{cause}, expected something like http://127.0.0.1:4317");
    let uri: Uri = text.parse().map_err(|_| refused("it is no URL"))?;
    let authority = uri.authority().ok_or_else(|| refused("it names no host"))?;
    match uri.scheme_str() {
        Some("http" | "https") if authority.as_str().contains('@') => {
            Err(refused("it holds a user; put keys into OTEL_EXPORTER_OTLP_HEADERS"))
        }
        Some("http" | "https") => Ok(text.to_owned()),
        _ => Err(refused("its scheme is not http or https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_from_0_to_1() {
        for (text, ratio) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0)] {
            assert_eq!(text.parse(), Ok(Ratio(ratio)));
        }
        for text in ["-0.1", "1.1", "NaN", "inf", "half", ""] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_protocol_is_read_as_it_is_written_and_json_is_none() {
        for text in ["grpc", "http/protobuf"] {
            assert_eq!(text.parse::<OtlpProtocol>().unwrap().to_string(), text);
        }
        let message = "http/json".parse::<OtlpProtocol>().unwrap_err();
        assert!(message.contains("http/json") && message.contains("http/protobuf"), "{message}");
    }

    #[test]
    fn an_endpoint_is_a_url_without_a_secret() {
        for good in ["http://127.0.0.1:4317", "https://otlp.example.org"] {
            assert_eq!(endpoint(good).as_deref(), Ok(good));
        }
        for bad in ["127.0.0.1:4317", "/v1/traces", "ftp://example.org", "http://user:key@example.org", ""] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
