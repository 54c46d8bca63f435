//! The configuration of a fetcher.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use crate::limits::Limits;

/// Permissions and limits of a [`super::Fetcher`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchConfig {
    /// Allowed domains. Empty allows all. If not empty, URLs with IP addresses are rejected.
    pub allow_domains: Vec<DomainPattern>,
    /// Allowed ports.
    pub allow_ports: Vec<u16>,
    /// Networks that are allowed although their addresses are not public.
    pub allow_networks: Vec<IpNet>,
    /// Certificate authorities that are trusted in addition to the public ones.
    pub extra_authorities: Vec<CertificateDer<'static>>,
    /// Whether `http` is allowed in addition to `https`.
    pub allow_http: bool,
    /// Largest accepted body, in bytes.
    pub max_bytes: usize,
    /// Largest number of redirects.
    pub max_redirects: usize,
    /// Timeout for a connection, including name resolution and TLS.
    pub connect_timeout: Duration,
    /// Timeout from the request to the response headers, including the connection.
    pub first_byte_timeout: Duration,
    /// Timeout for the complete image, including the wait for its turn, redirects and retries.
    pub total_timeout: Duration,
    /// Largest number of retries after transient errors, for all images of a call at one host.
    pub max_retries: u32,
    /// Delay before the first retry. It doubles with each retry.
    pub retry_pause: Duration,
    /// Size of the cache of fresh images, in bytes. 0 disables it.
    pub cache_bytes: usize,
    /// Largest cache lifetime of an image. The response may shorten it.
    pub cache_max_age: Duration,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            allow_domains: Vec::new(),
            allow_ports: vec![80, 443],
            allow_networks: Vec::new(),
            extra_authorities: Vec::new(),
            allow_http: true,
            max_bytes: Limits::default().max_bytes,
            max_redirects: 3,
            connect_timeout: Duration::from_secs(3),
            first_byte_timeout: Duration::from_secs(8),
            total_timeout: Duration::from_secs(20),
            max_retries: 1,
            retry_pause: Duration::from_millis(100),
            cache_bytes: 64 << 20,
            cache_max_age: Duration::from_secs(3600),
        }
    }
}

/// A pattern of domains: `example.com`, or `*.example.com` for all subdomains of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPattern(String);

impl DomainPattern {
    /// Whether the pattern matches `host`, in lower case as in a parsed URL.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

impl FromStr for DomainPattern {
    type Err = Infallible;

    fn from_str(pattern: &str) -> Result<Self, Infallible> {
        Ok(Self(pattern.trim().trim_end_matches('.').to_lowercase()))
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_subdomains_only() {
        let below: DomainPattern = "*.Example.com".parse().unwrap();
        assert!(below.matches("a.example.com") && below.matches("a.b.example.com."));
        assert!(!below.matches("example.com") && !below.matches("evilexample.com"));
        let exact: DomainPattern = "example.com".parse().unwrap();
        assert!(exact.matches("example.com."));
        assert!(!exact.matches("a.example.com") && !exact.matches("example.com.evil.net"));
    }
}
