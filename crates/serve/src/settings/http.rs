//! Settings of the HTTP listener.

use std::net::SocketAddr;

use clap::Args;

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

    /// Origins whose pages may call from a browser, comma-separated, such as https://example.org; * for all
    /// [default: none]
    #[arg(
        long,
        value_name = "ORIGIN",
        value_delimiter = ',',
        env = "BLIP_SERVE__HTTP__CORS_ORIGINS"
    )]
    pub http_cors_origins: Vec<String>,
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
}
