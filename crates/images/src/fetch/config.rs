//! What may be fetched, and at what cost.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use crate::limits::Limits;

/// Ceilings and permissions of a [`super::Fetcher`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchConfig {
    /// Domains that may be fetched from; empty: all. With any, IP addresses in URLs are refused.
    pub allow_domains: Vec<DomainPattern>,
    /// Ports that may be fetched from.
    pub allow_ports: Vec<u16>,
    /// Networks that may be fetched from although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Authorities whose certificates are trusted beside the public ones.
    pub extra_authorities: Vec<CertificateDer<'static>>,
    /// Whether `http` is taken beside `https`.
    pub allow_http: bool,
    /// Longest accepted body, in bytes.
    pub max_bytes: usize,
    /// Redirects that are followed.
    pub max_redirects: usize,
    /// Longest wait for a connection, name resolution and TLS included.
    pub connect_timeout: Duration,
    /// Longest wait from a request to the head of its response, connecting included.
    pub first_byte_timeout: Duration,
    /// Longest wait for the whole image: queueing, redirects and retries included.
    pub total_timeout: Duration,
    /// Attempts after the first, after transient faults.
    pub max_retries: u32,
    /// Pause before the first retry; it doubles with each.
    pub retry_pause: Duration,
    /// Requests to one host at a time.
    pub max_requests_per_host: usize,
    /// Requests in all at a time.
    pub max_requests: usize,
    /// Bytes of images that are kept while they are fresh; 0 keeps none.
    pub cache_bytes: usize,
    /// Longest time for which an image is kept, whatever its server says.
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
            max_retries: 2,
            retry_pause: Duration::from_millis(100),
            max_requests_per_host: 8,
            max_requests: 64,
            cache_bytes: 64 << 20,
            cache_max_age: Duration::from_secs(3600),
        }
    }
}

/// `example.com`, or `*.example.com` for every name below it (but not itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPattern(String);

impl DomainPattern {
    /// Whether `host` (lower-case, as a parsed URL has it) is meant.
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
    fn star_means_what_is_below_and_nothing_that_only_ends_alike() {
        let below: DomainPattern = "*.Example.com".parse().unwrap();
        assert!(below.matches("a.example.com") && below.matches("a.b.example.com."));
        assert!(!below.matches("example.com") && !below.matches("evilexample.com"));
        let exact: DomainPattern = "example.com".parse().unwrap();
        assert!(exact.matches("example.com."));
        assert!(!exact.matches("a.example.com") && !exact.matches("example.com.evil.net"));
    }
}
