//! The names by which clients may address the server.
//!
//! A page in a browser can resolve its host name to the address of the server (DNS rebinding).
//! The browser then treats server and page as one origin. The server recognizes such requests by
//! the name in their Host header.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{Version, header::HOST, uri::Authority};

use crate::{
    config::sections::http::{AllowedHost, Listen},
    error::{ErrorReason, RequestError},
};

/// The names that a listener accepts. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct HostPolicy {
    hosts: Arc<[AllowedHost]>,
    allows_any: bool,
}

impl HostPolicy {
    /// Creates the policy of a listener at `address`. Without names in the settings, it accepts
    /// every name unless only programs on this machine can connect.
    pub(crate) fn new(hosts: &[AllowedHost], listen: Listen) -> Self {
        let is_local = listen.address().is_some_and(|address| address.ip().to_canonical().is_loopback());
        let allows_any = hosts.contains(&AllowedHost::Any) || hosts.is_empty() && !is_local;
        Self { hosts: hosts.into(), allows_any }
    }

    fn allows(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // No name server can make an address of a page the address of this server.
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        self.allows_any
            || address.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.hosts.iter().any(|allowed| matches!(allowed, AllowedHost::Named(name) if *name == host))
    }
}

/// Rejects requests that address the server by a name that `policy` does not allow.
pub(crate) async fn check_host(
    State(policy): State<HostPolicy>,
    request: Request,
    next: Next,
) -> Result<Response, RequestError> {
    match host_of(&request)? {
        Some(host) if !policy.allows(host.host()) => {
            Err(RequestError::new(ErrorReason::HostRefused).value(host.host()))
        }
        _ => Ok(next.run(request).await),
    }
}

/// Returns the host that a request names, or `None` if a protocol without Host has none.
///
/// # Errors
/// A [`RequestError`] if the header is missing, duplicate or invalid (RFC 9112, section 3.2).
fn host_of(request: &Request) -> Result<Option<Authority>, RequestError> {
    let invalid = |cause: &str| RequestError::new(ErrorReason::HostInvalid).cause(cause);
    let mut headers = request.headers().get_all(HOST).iter();
    let header = match (headers.next(), headers.next()) {
        (Some(_), Some(_)) => return Err(invalid("more than one")),
        (Some(header), None) => {
            let host = Authority::try_from(header.as_bytes()).ok();
            // A host has no user name.
            let host = host.filter(|host| !host.as_str().contains('@'));
            Some(host.ok_or_else(|| invalid("no host and port"))?)
        }
        (None, _) if request.version() == Version::HTTP_11 => return Err(invalid("missing")),
        (None, _) => None,
    };
    // The target of the request takes precedence: `:authority` in HTTP/2, or an absolute URI.
    Ok(request.uri().authority().cloned().or(header))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn policy(hosts: &[&str], listen: &str) -> HostPolicy {
        let hosts: Vec<_> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        HostPolicy::new(&hosts, listen.parse().unwrap())
    }

    #[test]
    fn loopback_listener_allows_addresses_and_localhost_only() {
        for listen in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            let policy = policy(&[], listen);
            for host in ["localhost", "LOCALHOST.", "blip.localhost", "127.0.0.1", "[::1]", "10.1.2.3"] {
                assert!(policy.allows(host), "{host}");
            }
            for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "127.1"] {
                assert!(!policy.allows(host), "{host}");
            }
        }
    }

    #[test]
    fn public_listener_allows_every_name_unless_some_are_set() {
        assert!(policy(&[], "0.0.0.0:8080").allows("any.example"));
        let named = policy(&["blip.example", "Other.Example"], "0.0.0.0:8080");
        for host in ["blip.example", "BLIP.example.", "other.example", "localhost", "10.1.2.3"] {
            assert!(named.allows(host), "{host}");
        }
        assert!(!named.allows("a.blip.example") && !named.allows("any.example"));
        assert!(policy(&["blip.example", "*"], "127.0.0.1:8080").allows("any.example"));
    }

    #[test]
    fn host_is_that_of_the_target_or_of_the_only_header() {
        let host = |version, uri: &str, headers: &[&str]| {
            let mut request = Request::builder().version(version).uri(uri);
            for header in headers {
                request = request.header(HOST, *header);
            }
            let host = host_of(&request.body(Body::empty()).unwrap());
            host.map(|host| host.map(|host| host.to_string())).map_err(|error| error.to_string())
        };
        let named = |host: &str| Ok(Some(host.to_owned()));
        assert_eq!(host(Version::HTTP_11, "/", &["a.example:80"]), named("a.example:80"));
        assert_eq!(host(Version::HTTP_11, "http://b.example/", &["a.example"]), named("b.example"));
        assert_eq!(host(Version::HTTP_2, "http://[::1]:80/", &[]), named("[::1]:80"));
        assert_eq!((host(Version::HTTP_10, "/", &[]), host(Version::HTTP_2, "/", &[])), (Ok(None), Ok(None)));
        let invalid = |cause: &str| Err(format!("invalid host header: {cause}"));
        assert_eq!(host(Version::HTTP_11, "/", &[]), invalid("missing"));
        assert_eq!(host(Version::HTTP_11, "/", &["a.example", "a.example"]), invalid("more than one"));
        for header in ["", "a b", "user@a.example", "a.example/path", "a.example:port:"] {
            assert_eq!(host(Version::HTTP_11, "/", &[header]), invalid("no host and port"), "{header}");
        }
    }
}
