//! Decides which addresses the fetcher may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A policy that allows public unicast addresses and the networks in its allow list.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

/// A range of addresses that is rejected unless the allow list contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedRange {
    /// The addresses.
    pub network: IpNet,
    /// The purpose of the range.
    pub purpose: &'static str,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8, purpose: &'static str) -> RefusedRange {
    let network = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix));
    RefusedRange { network, purpose }
}

const fn v6(segments: [u16; 8], prefix: u8, purpose: &'static str) -> RefusedRange {
    let [a, b, c, d, e, f, g, h] = segments;
    let network = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix));
    RefusedRange { network, purpose }
}

/// All ranges that are rejected by default:
///
/// - IANA's special-purpose registries for IPv4 and IPv6
/// - IPv6 forms that contain an IPv4 address, because they can express any IPv4 address
/// - multicast
/// - a cloud metadata service on a public address
///
/// IPv6 addresses outside global unicast (2000::/3) are rejected, too.
pub const REFUSED_RANGES: &[RefusedRange] = &[
    v4(0, 0, 0, 0, 8, "this network"),
    v4(10, 0, 0, 0, 8, "private"),
    v4(100, 64, 0, 0, 10, "carrier-grade nat"),
    v4(127, 0, 0, 0, 8, "loopback"),
    v4(168, 63, 129, 16, 32, "azure platform services"),
    v4(169, 254, 0, 0, 16, "link-local, with cloud metadata"),
    v4(172, 16, 0, 0, 12, "private"),
    v4(192, 0, 0, 0, 24, "ietf protocol assignments"),
    v4(192, 0, 2, 0, 24, "documentation"),
    v4(192, 88, 99, 0, 24, "6to4 relays"),
    v4(192, 168, 0, 0, 16, "private"),
    v4(198, 18, 0, 0, 15, "benchmarking"),
    v4(198, 51, 100, 0, 24, "documentation"),
    v4(203, 0, 113, 0, 24, "documentation"),
    v4(224, 0, 0, 0, 4, "multicast"),
    v4(240, 0, 0, 0, 4, "reserved and broadcast"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "ipv4-compatible"),
    v6([0, 0, 0, 0, 0, 0xFFFF, 0, 0], 96, "ipv4-mapped"),
    v6([0, 0, 0, 0, 0xFFFF, 0, 0, 0], 96, "ipv4-translated"),
    v6([0x64, 0xFF9B, 0, 0, 0, 0, 0, 0], 96, "nat64"),
    v6([0x64, 0xFF9B, 1, 0, 0, 0, 0, 0], 48, "local nat64"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "ietf protocol assignments, with teredo"),
    v6([0x2001, 0xDB8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    v6([0x3FFF, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    v6([0x5F00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing"),
    v6([0xFC00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    v6([0xFE80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    v6([0xFEC0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    v6([0xFF00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

impl AddressPolicy {
    /// Creates the default policy with an allow list.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Checks whether a connection to `address` is allowed.
    ///
    /// # Errors
    /// The purpose of the range that contains `address`, as in [`REFUSED_RANGES`].
    pub fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        if let Some(range) = REFUSED_RANGES.iter().find(|range| range.network.contains(&address)) {
            return Err(range.purpose);
        }
        match address {
            IpAddr::V6(address) if !GLOBAL_UNICAST.contains(&address) => Err("not global unicast"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str) -> Result<(), &'static str> {
        AddressPolicy::default().check(address.parse().unwrap())
    }

    #[test]
    fn both_ends_of_each_range_are_rejected() {
        for range in REFUSED_RANGES {
            for address in [range.network.network(), range.network.broadcast()] {
                assert!(AddressPolicy::default().check(address).is_err(), "{address} of {range:?}");
            }
        }
    }

    #[test]
    fn neighbours_of_ranges_are_allowed() {
        let public = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
            168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 \
            192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 \
            2001:200:: 2001:4860:4860::8888 2003:: 2606:4700::1111 2a00:1450::1 3ffe:ffff::";
        for address in public.split_whitespace() {
            assert_eq!(check(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn cloud_metadata_addresses_are_rejected() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
        ] {
            assert!(check(address).is_err(), "{address}");
        }
    }

    #[test]
    fn ipv6_forms_of_loopback_are_rejected() {
        let forms = [
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
            "2001::1",
        ];
        for address in forms {
            assert!(check(address).is_err(), "{address}");
        }
    }

    #[test]
    fn allow_list_admits_its_networks_only() {
        let policy = AddressPolicy::new(vec!["127.0.0.0/30".parse().unwrap()]);
        assert_eq!(policy.check("127.0.0.1".parse().unwrap()), Ok(()));
        assert_eq!(policy.check("127.0.0.4".parse().unwrap()), Err("loopback"));
        assert_eq!(policy.check("::ffff:127.0.0.1".parse().unwrap()), Err("ipv4-mapped"));
    }

    #[test]
    fn addresses_outside_global_unicast_are_rejected() {
        assert_eq!(check("4000::1"), Err("not global unicast"));
        assert_eq!(check("1fff::1"), Err("not global unicast"));
    }
}
