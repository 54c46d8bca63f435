//! Resolves host names to the addresses that the policy allows.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::{FutureExt as _, future::BoxFuture};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::fetch::address_policy::AddressPolicy;

/// A resolver of host names.
pub trait Resolver: Send + Sync + 'static {
    /// Returns the addresses of `host`.
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) }
            .boxed()
    }
}

/// A resolver that returns only addresses that the policy allows.
///
/// The HTTP client connects to these addresses. It does not resolve the name a second time, so a
/// different second answer cannot bypass the check.
pub(super) struct CheckedResolver {
    pub(super) inner: Arc<dyn Resolver>,
    pub(super) policy: AddressPolicy,
}

/// The reason why a name has no allowed address.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("no allowed address")]
    Refused,
    #[error("name not found")]
    NotFound,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.inner.resolve(name.as_str().to_owned());
        let policy = self.policy.clone();
        async move {
            let found = found.await.unwrap_or_default();
            if found.is_empty() {
                return Err(ResolveError::NotFound.into());
            }
            let public: Vec<_> = found.into_iter().filter(|address| policy.check(*address).is_ok()).collect();
            if public.is_empty() {
                return Err(ResolveError::Refused.into());
            }
            let addresses: Addrs = Box::new(public.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static [&'static str]);

    impl Resolver for Fixed {
        fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let addresses = self.0.iter().map(|address| address.parse().unwrap()).collect();
            async move { Ok(addresses) }.boxed()
        }
    }

    async fn resolved(addresses: &'static [&'static str]) -> Result<Vec<String>, String> {
        let resolver =
            CheckedResolver { inner: Arc::new(Fixed(addresses)), policy: AddressPolicy::default() };
        match resolver.resolve("example.com".parse().unwrap()).await {
            Ok(found) => Ok(found.map(|address| address.ip().to_string()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn mixed_answer_keeps_public_addresses() {
        assert_eq!(resolved(&["127.0.0.1", "8.8.8.8", "::1"]).await, Ok(vec!["8.8.8.8".to_owned()]));
    }

    #[tokio::test]
    async fn answer_without_public_address_is_rejected() {
        assert_eq!(resolved(&["10.0.0.1", "::ffff:8.8.8.8"]).await, Err("no allowed address".to_owned()));
        assert_eq!(resolved(&[]).await, Err("name not found".to_owned()));
    }
}
