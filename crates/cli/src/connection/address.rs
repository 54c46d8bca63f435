//! The address of a server: a URL, or `host:port`.

use std::str::FromStr;

use tonic::transport::Uri;

/// The port of the gRPC listener by default.
const DEFAULT_PORT: u16 = 50051;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    /// `http` or `https`, or `None` if the text has no scheme.
    scheme: Option<String>,
    /// The rest of the URL after `://`.
    rest: String,
}

impl ServerAddress {
    /// Returns the URL. Without a scheme, `is_tls` decides between http and https.
    pub(crate) fn url(&self, is_tls: bool) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(if is_tls { "https" } else { "http" });
        format!("{scheme}://{}", self.rest)
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected HOST:PORT, http://HOST:PORT or https://HOST:PORT";
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest.to_owned()),
            None => (None, text.to_owned()),
        };
        if scheme.as_deref().is_some_and(|scheme| !["http", "https"].contains(&scheme)) {
            return Err(format!("unknown scheme in {text:?}, {EXPECTED}"));
        }
        let mut address = Self { scheme, rest };
        let uri: Uri = address.url(false).parse().map_err(|error| format!("{error}, {EXPECTED}"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(format!("no host in {text:?}, {EXPECTED}"));
        }
        // The parser accepts a port that is no number, and drops it.
        let after_host = address.rest.rsplit(']').next().unwrap_or_default().split('/').next();
        if after_host.is_some_and(|rest| rest.contains(':')) && uri.port_u16().is_none() {
            return Err(format!("invalid port in {text:?}, {EXPECTED}"));
        }
        if address.scheme.is_none() {
            // Such a text is no URL of a web page, which would have a path.
            if uri.path_and_query().is_some_and(|path| path != "/") {
                return Err(format!("path in {text:?}, {EXPECTED}"));
            }
            if uri.port().is_none() {
                address.rest = format!("{}:{DEFAULT_PORT}", address.rest.trim_end_matches('/'));
            }
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_without_scheme_or_port_gets_both() {
        for (text, is_tls, url) in [
            ("blip:50051", false, "http://blip:50051"),
            ("blip:50051", true, "https://blip:50051"),
            ("blip.example.org", false, "http://blip.example.org:50051"),
            ("127.0.0.1:7", false, "http://127.0.0.1:7"),
            ("[::1]:50051", false, "http://[::1]:50051"),
            ("http://blip:1", true, "http://blip:1"),
            ("HTTPS://blip", false, "https://blip"),
            ("http://blip:8080/v1/ask", false, "http://blip:8080/v1/ask"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().url(is_tls), url, "{text}");
        }
    }

    #[test]
    fn other_texts_are_rejected_with_the_forms_allowed() {
        for text in ["", "grpc://blip:1", "http://", "blip:port", "a b", "blip/path", ":50051"] {
            let error = text.parse::<ServerAddress>().unwrap_err();
            assert!(error.contains("expected HOST:PORT"), "{text:?}: {error}");
        }
    }
}
