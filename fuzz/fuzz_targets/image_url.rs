//! Any text as an image's URL: what the policy lets through is plain HTTP to a name or a public address.
//!
//! `cargo fuzz run -s none image_url`

#![no_main]

use std::net::IpAddr;

use images::fetch::{FetchConfig, UrlPolicy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let policy = UrlPolicy::new(&FetchConfig::default());
    let Ok(url) = policy.parse(text) else { return };
    assert!(matches!(url.scheme(), "http" | "https"));
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(matches!(url.port_or_known_default(), Some(80 | 443)));
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if let Some(address) = address {
        assert!(policy.addresses().check(address).is_ok(), "{url}");
    }
    // What was let through is let through as it was understood, too.
    assert_eq!(policy.parse(url.as_str()).as_ref(), Ok(&url));
});
