//! Settings of the HTTP listener.

use std::{fmt, net::SocketAddr};

use clap::Args;
use http::{HeaderValue, Uri};

/// An address to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// No listener.
    Off,
    /// This address.
    At(SocketAddr),
}

impl Listen {
    /// Returns the address, if any.
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

/// An origin whose pages may call from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigin {
    /// Any origin.
    Any,
    /// One origin: a scheme, a host and optionally a port.
    Named(HeaderValue),
}

impl std::str::FromStr for CorsOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let invalid =
            || format!("invalid origin {text:?}, expected * or an origin such as https://example.org");
        // Browsers send origins in lower case.
        let origin = text.to_ascii_lowercase();
        let uri: Uri = origin.parse().map_err(|_| invalid())?;
        let scheme =
            uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(invalid)?;
        let authority = uri.authority().ok_or_else(invalid)?;
        // A path, even a slash, and a user are not allowed.
        if origin != format!("{scheme}://{authority}") || origin.contains('@') {
            return Err(invalid());
        }
        HeaderValue::from_str(&origin).map(Self::Named).map_err(|_| invalid())
    }
}

impl CorsOrigin {
    /// Returns whether pages of `origin` may call.
    #[must_use]
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Named(allowed) => allowed == origin,
        }
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

/// A name by which clients may address the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// Any name.
    Any,
    /// One name, in lower case.
    Named(String),
}

impl std::str::FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_name) {
            return Err(format!("invalid host {text:?}, expected * or a name without a port"));
        }
        Ok(Self::Named(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Named(name) => name,
        })
    }
}

/// The path of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute(String);

impl HttpRoute {
    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for HttpRoute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The characters of a path (RFC 3986, section 3.3), of which none needs an escape.
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
        if !text.starts_with('/') || !text.bytes().all(is_path) {
            return Err(format!("invalid path {text:?}, expected a path such as /predict"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for HttpRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The HTTP listener: JSON, server-sent events, gRPC-Web.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Address and port of the HTTP API and its documentation, or `off`
    ///
    /// Port 0 selects a free port. The server prints it when it is ready.
    #[arg(
        long,
        value_name = "ADDRESS|off",
        env = "BLIP_SERVE__HTTP__LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub http_listen: Listen,

    /// Origins whose pages may call from a browser, comma-separated
    ///
    /// An example is `https://example.org`. Use * for every origin.
    ///
    /// [default: none]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', env = "BLIP_SERVE__HTTP__CORS_ORIGINS")]
    pub http_cors_origins: Vec<CorsOrigin>,

    /// Names by which HTTP clients may address the server, comma-separated
    ///
    /// The server rejects requests whose Host header has another name, on the HTTP and the metrics
    /// listener. A page in a browser can therefore not call the server by a host name that
    /// the page resolves to the address of the server. IP addresses and localhost are always
    /// allowed. Use * for every name.
    ///
    /// [default: no other name on a loopback address, and every name elsewhere]
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "BLIP_SERVE__HTTP__ALLOWED_HOSTS")]
    pub allowed_hosts: Vec<AllowedHost>,

    /// Further path of the health check `/health`
    ///
    /// Vertex AI chooses it by the environment variable `AIP_HEALTH_ROUTE`.
    ///
    /// [default: none]
    #[arg(long, value_name = "PATH", env = "BLIP_SERVE__HTTP__HEALTH_ROUTE")]
    pub health_route: Option<HttpRoute>,

    /// Further path of `/invocations`
    ///
    /// Vertex AI chooses it by the environment variable `AIP_PREDICT_ROUTE`.
    ///
    /// [default: none]
    #[arg(long, value_name = "PATH", env = "BLIP_SERVE__HTTP__PREDICT_ROUTE")]
    pub predict_route: Option<HttpRoute>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        assert_eq!("[::1]:80".parse(), Ok(Listen::At("[::1]:80".parse().unwrap())));
        assert!("8080".parse::<Listen>().unwrap_err().contains("off"));
    }

    #[test]
    fn route_is_a_path_from_the_root() {
        let path = "/v1/endpoints/1/deployedModels/2:predict";
        assert_eq!(path.parse::<HttpRoute>().unwrap().path(), path);
        for text in ["", "predict", "/a b", "/{name}", "/a?b", "http://a"] {
            assert!(text.parse::<HttpRoute>().is_err(), "{text}");
        }
    }

    #[test]
    fn origin_is_a_scheme_and_a_host_only() {
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
            assert!(parse(text).unwrap_err().starts_with("invalid origin"), "{text}");
        }
    }

    #[test]
    fn allowed_host_is_a_name_without_port() {
        let parse = |text: &str| text.parse::<AllowedHost>().map(|host| host.to_string());
        for (text, host) in [("*", "*"), ("Blip.Example.org", "blip.example.org"), ("blip_1", "blip_1")] {
            assert_eq!(parse(text).as_deref(), Ok(host));
        }
        for text in ["", "example.org:80", "https://example.org", "*.example.org", "a b", "[::1]"] {
            assert!(parse(text).unwrap_err().starts_with("invalid host"), "{text}");
        }
    }
}
