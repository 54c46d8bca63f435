//! Settings of images by URL. The defaults are those of the fetcher.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, ValueHint};
use images::fetch::{DomainPattern, FetchConfig};
use ipnet::IpNet;

use crate::config::sections::limits::RequestLimits;

/// Images by URL.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Images by URL")]
pub struct FetchSettings {
    /// Fetch images by http and https URLs
    ///
    /// If disabled, the server rejects such images as UNIMPLEMENTED. It accepts data: URLs in any
    /// case.
    #[arg(long = "fetch", env = "BLIP_SERVE__FETCH__ENABLED", default_value_t = true, action = ArgAction::Set)]
    pub fetch_enabled: bool,

    /// Non-public networks from which images may be fetched, comma-separated
    ///
    /// An example is 10.1.0.0/16.
    ///
    /// [default: none]
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "BLIP_SERVE__FETCH__ALLOW_NETWORKS")]
    pub fetch_allow_networks: Vec<IpNet>,

    /// Domains from which images may be fetched, comma-separated
    ///
    /// *.example.com matches the subdomains of example.com. With this setting, the server rejects
    /// URLs with IP addresses.
    ///
    /// [default: all]
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', env = "BLIP_SERVE__FETCH__ALLOW_DOMAINS")]
    pub fetch_allow_domains: Vec<DomainPattern>,

    /// Ports from which images may be fetched, comma-separated
    #[arg(long, value_name = "PORT", value_delimiter = ',', env = "BLIP_SERVE__FETCH__ALLOW_PORTS",
          default_values_t = FetchConfig::default().allow_ports)]
    pub fetch_allow_ports: Vec<u16>,

    /// Certificate authorities that are trusted besides the public ones, in PEM
    ///
    /// [default: none]
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__FETCH__CA_FILE", value_hint = ValueHint::FilePath)]
    pub fetch_ca_file: Option<PathBuf>,

    /// Maximum size of a fetched file, in bytes
    ///
    /// The limit --max-image-bytes applies, too.
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__FETCH__MAX_BYTES",
          default_value_t = FetchConfig::default().max_bytes)]
    pub fetch_max_bytes: usize,

    /// Maximum memory for fetched files of all clients together, in bytes
    ///
    /// A file counts until it is decoded. While it is fetched, the bytes that have arrived count.
    /// A client holds a share of the memory while others need some, and most of it while it is
    /// alone.
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__FETCH__MAX_MEMORY_BYTES", default_value_t = 512 << 20)]
    pub fetch_max_memory_bytes: usize,

    /// Memory for cached files, in bytes; 0 disables the cache
    ///
    /// A file is cached for as long as its server declares it fresh.
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__FETCH__CACHE_BYTES",
          default_value_t = FetchConfig::default().cache_bytes)]
    pub fetch_cache_bytes: usize,

    /// Time limit for a connection, in milliseconds
    ///
    /// Includes name resolution and TLS.
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__FETCH__CONNECT_TIMEOUT_MS",
          default_value_t = milliseconds(FetchConfig::default().connect_timeout))]
    pub fetch_connect_timeout_ms: u64,

    /// Time limit from a request to the head of its response, in milliseconds
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__FETCH__FIRST_BYTE_TIMEOUT_MS",
          default_value_t = milliseconds(FetchConfig::default().first_byte_timeout))]
    pub fetch_first_byte_timeout_ms: u64,

    /// Time limit for a whole file, in milliseconds
    ///
    /// Includes the wait for its turn, redirects and retries. The deadline of the call applies,
    /// too.
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__FETCH__TOTAL_TIMEOUT_MS",
          default_value_t = milliseconds(FetchConfig::default().total_timeout))]
    pub fetch_total_timeout_ms: u64,

    /// Maximum number of redirects of a fetch
    ///
    /// All checks apply to each redirect. A call with N images sends at most 2 N + 8 requests to
    /// one host, redirects and retries included.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__FETCH__MAX_REDIRECTS",
          default_value_t = FetchConfig::default().max_redirects)]
    pub fetch_max_redirects: usize,

    /// Maximum number of concurrent requests to one host
    ///
    /// Also limits the concurrent fetches of one call. A client holds a share of them while others
    /// fetch from the host.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__FETCH__MAX_REQUESTS_PER_HOST", default_value_t = 8)]
    pub fetch_max_requests_per_host: usize,

    /// Maximum number of concurrent requests to all hosts together
    ///
    /// A client holds a share of them while others fetch.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__FETCH__MAX_REQUESTS", default_value_t = 64)]
    pub fetch_max_requests: usize,
}

impl FetchSettings {
    /// Returns the configuration of the fetcher.
    ///
    /// The maximum file size is at most that of `limits`, and at most the memory for fetched files.
    #[must_use]
    pub fn config(&self, limits: &RequestLimits) -> FetchConfig {
        FetchConfig {
            allow_domains: self.fetch_allow_domains.clone(),
            allow_ports: self.fetch_allow_ports.clone(),
            allow_networks: self.fetch_allow_networks.clone(),
            max_bytes: self.fetch_max_bytes.min(limits.max_image_bytes).min(self.fetch_max_memory_bytes),
            max_redirects: self.fetch_max_redirects,
            connect_timeout: Duration::from_millis(self.fetch_connect_timeout_ms),
            first_byte_timeout: Duration::from_millis(self.fetch_first_byte_timeout_ms),
            total_timeout: Duration::from_millis(self.fetch_total_timeout_ms),
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
    use crate::config::Settings;

    #[test]
    fn defaults_equal_those_of_the_fetcher() {
        let settings = Settings::default();
        assert!(settings.fetch.fetch_enabled);
        assert_eq!(settings.fetch.config(&settings.limits), FetchConfig::default());
    }

    #[test]
    fn fetched_size_is_limited_by_image_size_and_memory() {
        let mut settings = Settings::default();
        settings.limits.max_image_bytes = 1000;
        assert_eq!(settings.fetch.config(&settings.limits).max_bytes, 1000);
        settings.fetch.fetch_max_memory_bytes = 100;
        assert_eq!(settings.fetch.config(&settings.limits).max_bytes, 100);
    }
}
