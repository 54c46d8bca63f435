//! Decides which URLs may be fetched, before any name is resolved.

use std::net::IpAddr;

use url::{Host, Url};

use crate::fetch::{
    address_policy::AddressPolicy,
    config::{DomainPattern, FetchConfig},
    error::FetchError,
};

/// The largest accepted URL, in bytes. Of `data` URLs, the decoded size is limited.
const MAX_URL_BYTES: usize = 8192;

/// A policy on the scheme, credentials, port and host of a URL.
#[derive(Clone, Debug)]
pub struct UrlPolicy {
    domains: Vec<DomainPattern>,
    ports: Vec<u16>,
    http: bool,
    addresses: AddressPolicy,
}

impl UrlPolicy {
    /// Creates the policy from `config`.
    #[must_use]
    pub fn new(config: &FetchConfig) -> Self {
        Self {
            domains: config.allow_domains.clone(),
            ports: config.allow_ports.clone(),
            http: config.allow_http,
            addresses: AddressPolicy::new(config.allow_networks.clone()),
        }
    }

    /// Returns the policy for resolved addresses.
    #[must_use]
    pub fn addresses(&self) -> &AddressPolicy {
        &self.addresses
    }

    /// Parses and checks the URL in `text`, and removes its fragment.
    ///
    /// # Errors
    /// [`FetchError`] names the part of the URL that is not allowed.
    pub fn parse(&self, text: &str) -> Result<Url, FetchError> {
        if text.len() > MAX_URL_BYTES {
            let reason = format!("{} bytes, at most {MAX_URL_BYTES} allowed", text.len());
            return Err(FetchError::InvalidUrl(reason));
        }
        let mut url = Url::parse(text).map_err(|error| FetchError::InvalidUrl(error.to_string()))?;
        url.set_fragment(None);
        self.check(&url)?;
        Ok(url)
    }

    /// Checks `url`. Parsing has normalized IP addresses in any notation.
    ///
    /// # Errors
    /// [`FetchError`] names the part of the URL that is not allowed.
    pub fn check(&self, url: &Url) -> Result<(), FetchError> {
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            scheme => return Err(FetchError::SchemeRefused { scheme: scheme.to_owned() }),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Credentials);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.ports.contains(&port) {
            return Err(FetchError::PortRefused { port });
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let address: IpAddr = match url.host() {
            None => return Err(FetchError::HostRefused { host }),
            Some(Host::Domain(name)) if self.allows_domain(name) => return Ok(()),
            Some(Host::Domain(_)) => return Err(FetchError::HostRefused { host }),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
        };
        if !self.domains.is_empty() {
            return Err(FetchError::HostRefused { host });
        }
        self.addresses.check(address).map_err(|_| FetchError::AddressRefused { host })
    }

    fn allows_domain(&self, domain: &str) -> bool {
        self.domains.is_empty() || self.domains.iter().any(|pattern| pattern.matches(domain))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(url: &str) -> &'static str {
        UrlPolicy::new(&FetchConfig::default()).parse(url).map_or_else(|error| error.reason(), |_| "OK")
    }

    #[test]
    fn plain_urls_are_allowed() {
        for url in [
            "http://example.com",
            "https://example.com/a.png?b=c#d",
            "HTTPS://EXAMPLE.com:443/",
            "http://8.8.8.8/",
        ] {
            assert_eq!(reason(url), "OK", "{url}");
        }
    }

    #[test]
    fn loopback_address_is_rejected_in_every_notation() {
        let notations = "127.0.0.1 127.1 0x7f.1 0x7f000001 2130706433 017700000001 0177.0.0.1 127.0.0.1. 0.0.0.0 0 \
            %31%32%37.0.0.1 ①②⑦.0.0.1 127。0。0。1 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] \
            [::127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::1] [fe80::1] [fd00:ec2::254] 169.254.169.254 0xA9FEA9FE";
        for host in notations.split_whitespace() {
            assert_eq!(reason(&format!("http://{host}/latest/meta-data/")), "URL_ADDRESS_REFUSED", "{host}");
        }
    }

    #[test]
    fn misleading_credentials_are_rejected() {
        let tricks = [
            "http://user@example.com/",
            "http://:secret@example.com/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1:80@example.com/",
        ];
        for url in tricks {
            assert_eq!(reason(url), "URL_CREDENTIALS_REFUSED", "{url}");
        }
    }

    #[test]
    fn backslash_ends_the_host() {
        assert_eq!(reason(r"http://127.0.0.1\@example.com/"), "URL_ADDRESS_REFUSED");
    }

    #[test]
    fn other_schemes_and_ports_are_rejected() {
        for url in [
            "file:///etc/passwd",
            "ftp://example.com/",
            "gopher://example.com/",
            "javascript:1",
            "blob:http://example.com/x",
        ] {
            assert_eq!(reason(url), "URL_SCHEME_REFUSED", "{url}");
        }
        for url in ["http://example.com:22/", "http://example.com:8080/", "https://example.com:0/"] {
            assert_eq!(reason(url), "URL_PORT_REFUSED", "{url}");
        }
        for url in
            ["", "example.com/a.png", "//example.com", "http://", "http://exa mple.com/", "http://[::1/"]
        {
            assert_eq!(reason(url), "URL_INVALID", "{url}");
        }
        assert_eq!(reason(&format!("http://example.com/{}", "a".repeat(9000))), "URL_INVALID");
    }

    #[test]
    fn allow_domains_rejects_other_hosts_and_addresses() {
        let allow_domains = vec!["*.example.com".parse().unwrap()];
        let policy = UrlPolicy::new(&FetchConfig { allow_domains, ..FetchConfig::default() });
        assert!(policy.parse("https://images.example.com/a.png").is_ok());
        for url in ["https://example.org/", "http://8.8.8.8/", "https://example.com.evil.net/"] {
            assert_eq!(policy.parse(url).unwrap_err().reason(), "URL_HOST_REFUSED", "{url}");
        }
    }

    #[test]
    fn http_is_rejected_when_disabled() {
        let policy = UrlPolicy::new(&FetchConfig { allow_http: false, ..FetchConfig::default() });
        assert!(policy.parse("https://example.com/").is_ok());
        assert_eq!(policy.parse("http://example.com/").unwrap_err().reason(), "URL_SCHEME_REFUSED");
    }

    proptest! {
        #[test]
        fn allowed_url_has_a_name_or_a_public_address(url in "(http://)?[0-9a-fx.:@\\[\\]/%#?\\\\]{0,30}") {
            let policy = UrlPolicy::new(&FetchConfig::default());
            if let Ok(url) = policy.parse(&url) {
                prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
                match url.host() {
                    Some(Host::Ipv4(address)) => prop_assert!(policy.addresses().check(address.into()).is_ok()),
                    Some(Host::Ipv6(address)) => prop_assert!(policy.addresses().check(address.into()).is_ok()),
                    Some(Host::Domain(name)) => prop_assert!(name.parse::<IpAddr>().is_err()),
                    None => prop_assert!(false, "no host"),
                }
            }
        }
    }
}
