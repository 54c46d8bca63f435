//! Settings of the HTTP listener.

use std::{fmt, net::SocketAddr};

use clap::Args;
use http::{HeaderValue, Uri};

/// Where HTTP is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl Listen {
    /// The address, if any.
    #[must_use]
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|error| format!("{error}, expected ADDRESS:PORT or off")),
        }
    }
}

/// Whose pages may call from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigin {
    /// Everyone's.
    Any,
    /// Those of one origin: a scheme, a host and perhaps a port.
    Named(HeaderValue),
}

impl std::str::FromStr for CorsOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let refused = || format!("{text:?} is no origin, expected something like https://example.org, or *");
        // What browsers send is in lower case.
        let origin = text.to_ascii_lowercase();
        let uri: Uri = origin.parse().map_err(|_| refused())?;
        let scheme =
            uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(refused)?;
        let authority = uri.authority().ok_or_else(refused)?;
        // No path, not even a slash, and no user.
        if origin != format!("{scheme}://{authority}") || origin.contains('@') {
            return Err(refused());
        }
        HeaderValue::from_str(&origin).map(Self::Named).map_err(|_| refused())
    }
}

impl fmt::Display for CorsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Named(origin) => f.write_str(origin.to_str().unwrap_or_default()),
        }
    }
}

/// The HTTP listener: JSON, server-sent events, gRPC-Web.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Address and port of the JSON API and its documentation; port 0 takes a free one and says which; off for none
    #[arg(
        long,
        value_name = "ADDRESS|off",
        env = "BLIP_SERVE__HTTP__LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub http_listen: Listen,

    /// Origins whose pages may call from a browser, comma-separated, such as `https://example.org`; * for all
    /// [default: none]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "BLIP_SERVE__HTTP__CORS_ORIGINS")]
    pub http_cors_origins: Vec<CorsOrigin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        assert_eq!("[::1]:80".parse(), Ok(Listen::At("[::1]:80".parse().unwrap())));
        assert!("8080".parse::<Listen>().unwrap_err().contains("off"));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_more() {
        let parse = |text: &str| text.parse::<CorsOrigin>().map(|origin| origin.to_string());
        for (text, origin) in [
            ("*", "*"),
            ("https://example.org", "https://example.org"),
            ("HTTP://Example.org:8080", "http://example.org:8080"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(origin));
        }
        for text in [
            "",
            "example.org",
            "https://",
            "https://example.org/",
            "https://a@example.org",
            "ftp://example.org",
            "null",
            "https://*.example.org/x",
        ] {
            assert!(parse(text).unwrap_err().contains("is no origin"), "{text}");
        }
    }
}
