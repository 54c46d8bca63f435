//! Who holds a share: an API key, or else the network of a peer.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, Ipv6Addr},
};

use scheduler::ClientId;

/// The bits of an IPv6 address that a network assigns to one subscriber.
const IPV6_NETWORK: u128 = u128::MAX << 64;

/// Who a share is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Identifies the API key, or the network of the peer.
    pub id: ClientId,
    /// The weight among the callers.
    pub weight: u32,
}

impl Caller {
    /// The server itself.
    pub const SERVER: Self = Self { id: ClientId(0), weight: 1 };

    /// Returns the caller without a key at `address`.
    ///
    /// It is an IPv4 address or an IPv6 network of 64 bits, because one subscriber has a whole
    /// network. All peers without an address are one caller.
    #[must_use]
    pub fn peer(address: Option<IpAddr>) -> Self {
        let network = address.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK)),
            ipv4 => ipv4,
        });
        let mut hasher = DefaultHasher::new();
        network.hash(&mut hasher);
        Self { id: ClientId(hasher.finish()), weight: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Caller {
        Caller::peer(Some(address.parse().unwrap()))
    }

    #[test]
    fn ipv4_peer_is_its_address() {
        assert_eq!(peer("192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), Caller::peer(None));
    }

    #[test]
    fn ipv6_peer_is_its_network_of_64_bits() {
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
    }
}
