//! Settings of images by URL. Their defaults are the fetcher's own.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use images::fetch::{DomainPattern, FetchConfig};
use ipnet::IpNet;

use super::RequestLimits;

/// Images by URL: what may be fetched, and at what cost.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Images by URL")]
pub struct FetchSettings {
    /// Fetch nothing: images by http and https are refused as UNIMPLEMENTED. Images in data: URLs are served all the same
    #[arg(long, env = "BLIP_SERVE__FETCH__OFF")]
    pub fetch_off: bool,

    /// Networks that may be fetched from although they are not public, comma-separated, such as 10.1.0.0/16
    /// [default: none]
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "BLIP_SERVE__FETCH__ALLOW_NETWORKS")]
    pub fetch_allow_networks: Vec<IpNet>,

    /// Domains that may be fetched from, comma-separated; *.example.com is what lies below example.com. With any, URLs
    /// with IP addresses are refused [default: all]
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', env = "BLIP_SERVE__FETCH__ALLOW_DOMAINS")]
    pub fetch_allow_domains: Vec<DomainPattern>,

    /// Ports that may be fetched from, comma-separated
    #[arg(long, value_name = "PORT", value_delimiter = ',', env = "BLIP_SERVE__FETCH__ALLOW_PORTS",
          default_values_t = FetchConfig::default().allow_ports)]
    pub fetch_allow_ports: Vec<u16>,

    /// Authorities whose servers are trusted beside those of the public ones, in PEM [default: none]
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__FETCH__CA_FILE", value_hint = ValueHint::FilePath)]
    pub fetch_ca_file: Option<PathBuf>,

    /// Size of one fetched file, in bytes; --max-image-bytes holds besides
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__FETCH__MAX_BYTES",
          default_value_t = FetchConfig::default().max_bytes)]
    pub fetch_max_bytes: usize,

    /// Fetched files held in memory at a time until they are decoded, of all callers together, in bytes; each counts as
    /// the largest one allowed until it is there
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__FETCH__MAX_HELD_BYTES", default_value_t = 512 << 20)]
    pub fetch_max_held_bytes: usize,

    /// Fetched files kept for as long as their servers say that they are fresh, in bytes; 0 keeps none
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__FETCH__CACHE_BYTES",
          default_value_t = FetchConfig::default().cache_bytes)]
    pub fetch_cache_bytes: usize,

    /// Longest wait for a connection, name resolution and TLS included, in milliseconds
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__FETCH__CONNECT_TIMEOUT_MS",
          default_value_t = milliseconds(FetchConfig::default().connect_timeout))]
    pub fetch_connect_timeout_ms: u64,

    /// Longest wait from a request to the head of its response, in milliseconds
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__FETCH__FIRST_BYTE_TIMEOUT_MS",
          default_value_t = milliseconds(FetchConfig::default().first_byte_timeout))]
    pub fetch_first_byte_timeout_ms: u64,

    /// Longest wait for a whole file, redirects and retries included, in milliseconds; the call's deadline holds besides
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__FETCH__TOTAL_TIMEOUT_MS",
          default_value_t = milliseconds(FetchConfig::default().total_timeout))]
    pub fetch_total_timeout_ms: u64,

    /// Redirects that are followed, each with all checks
    #[arg(long, value_name = "N", env = "BLIP_SERVE__FETCH__MAX_REDIRECTS",
          default_value_t = FetchConfig::default().max_redirects)]
    pub fetch_max_redirects: usize,

    /// Requests to one host at a time, and fetches of one call at a time
    #[arg(long, value_name = "N", env = "BLIP_SERVE__FETCH__MAX_REQUESTS_PER_HOST",
          default_value_t = FetchConfig::default().max_requests_per_host)]
    pub fetch_max_requests_per_host: usize,

    /// Requests at a time, to all hosts together
    #[arg(long, value_name = "N", env = "BLIP_SERVE__FETCH__MAX_REQUESTS",
          default_value_t = FetchConfig::default().max_requests)]
    pub fetch_max_requests: usize,
}

impl FetchSettings {
    /// The same as the fetcher's own configuration. Nothing is fetched that `limits` would refuse, or that finds no
    /// room even when nothing else is held.
    #[must_use]
    pub fn config(&self, limits: &RequestLimits) -> FetchConfig {
        FetchConfig {
            allow_domains: self.fetch_allow_domains.clone(),
            allow_ports: self.fetch_allow_ports.clone(),
            allow_networks: self.fetch_allow_networks.clone(),
            max_bytes: self.fetch_max_bytes.min(limits.max_image_bytes).min(self.fetch_max_held_bytes),
            max_redirects: self.fetch_max_redirects,
            connect_timeout: Duration::from_millis(self.fetch_connect_timeout_ms),
            first_byte_timeout: Duration::from_millis(self.fetch_first_byte_timeout_ms),
            total_timeout: Duration::from_millis(self.fetch_total_timeout_ms),
            max_requests_per_host: self.fetch_max_requests_per_host,
            max_requests: self.fetch_max_requests,
            cache_bytes: self.fetch_cache_bytes,
            ..FetchConfig::default()
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn fetch_settings_left_alone_are_the_fetchers_own_defaults() {
        let settings = Settings::default();
        assert!(!settings.fetch.fetch_off);
        assert_eq!(settings.fetch.config(&settings.limits), FetchConfig::default());
    }

    #[test]
    fn nothing_is_fetched_that_would_be_refused_afterwards() {
        let mut settings = Settings::default();
        settings.limits.max_image_bytes = 1000;
        assert_eq!(settings.fetch.config(&settings.limits).max_bytes, 1000);
        settings.fetch.fetch_max_held_bytes = 100;
        assert_eq!(settings.fetch.config(&settings.limits).max_bytes, 100);
    }
}
