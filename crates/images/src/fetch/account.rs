//! On whose behalf images are fetched, and what one call may use.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use reqwest::header::HeaderMap;

/// A caller, with the limits on its fetches. The implementation decides how callers share them.
pub trait Account: fmt::Debug + Send + Sync + 'static {
    /// Identifies the caller. Concurrent fetches of one URL by one caller are one request.
    fn id(&self) -> u64;

    /// Waits until a request to `host` is allowed. The permit ends with the request.
    fn request(&self, host: &str) -> BoxFuture<'static, RequestPermit>;

    /// Waits until a body of at most `bytes` may be read. It occupies no memory yet.
    fn body(&self, bytes: usize) -> BoxFuture<'static, Box<dyn BodyMemory>>;
}

/// A permit that ends when it is dropped.
pub type RequestPermit = Box<dyn fmt::Debug + Send + Sync>;

/// The memory of one body. It returns to its owner on drop.
pub trait BodyMemory: fmt::Debug + Send + Sync {
    /// Reserves memory for `more` bytes.
    ///
    /// # Errors
    /// [`MemoryExhausted`] if the caller may not hold more.
    fn grow(&mut self, more: usize) -> Result<(), MemoryExhausted>;

    /// Ends the growth, and returns the memory beyond `bytes`.
    fn complete(&mut self, bytes: usize);
}

/// The caller may not hold more memory at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryExhausted;

/// What the fetches of one call share.
#[derive(Clone, Debug)]
pub struct FetchCall {
    /// The caller.
    pub account: Arc<dyn Account>,
    /// The requests that the call may send.
    pub requests: Arc<RequestBudget>,
    /// Headers of requests to the origin of the URL. Other origins do not receive them.
    pub headers: HeaderMap,
}

/// Requests to one host that a call may send besides two for each of its images.
const EXTRA_REQUESTS: usize = 8;

/// The requests that one call may send to each host, so that a small call cannot make the server
/// send many.
#[derive(Debug)]
pub struct RequestBudget {
    requests_per_host: usize,
    hosts: Mutex<HashMap<String, HostUse>>,
}

#[derive(Debug, Default)]
struct HostUse {
    requests: usize,
    retries: u32,
}

impl RequestBudget {
    /// Creates the budget of a call with this number of `images`. Each may be redirected once
    /// within its host.
    #[must_use]
    pub fn new(images: usize) -> Self {
        let requests_per_host = images.saturating_mul(2).saturating_add(EXTRA_REQUESTS);
        Self { requests_per_host, hosts: Mutex::default() }
    }

    /// Returns the largest number of requests to one host.
    pub(super) fn requests_per_host(&self) -> usize {
        self.requests_per_host
    }

    /// Takes a request to `host`. Returns whether one was left.
    pub(super) fn take_request(&self, host: &str) -> bool {
        let mut hosts = self.hosts();
        let used = hosts.entry(host.to_owned()).or_default();
        used.requests += 1;
        used.requests <= self.requests_per_host
    }

    /// Takes one of the `most` retries of a call at `host`. Returns whether one was left.
    pub(super) fn take_retry(&self, host: &str, most: u32) -> bool {
        let mut hosts = self.hosts();
        let used = hosts.entry(host.to_owned()).or_default();
        let is_left = used.retries < most;
        used.retries += u32::from(is_left);
        is_left
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, HostUse>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_a_host_are_twice_the_images_and_a_few() {
        let budget = RequestBudget::new(64);
        let sent = (0..1000).filter(|_| budget.take_request("a")).count();
        assert_eq!((sent, budget.requests_per_host()), (136, 136));
        assert!(budget.take_request("b"));
    }

    #[test]
    fn retries_are_counted_by_host() {
        let budget = RequestBudget::new(1);
        let taken = |host| (0..5).filter(|_| budget.take_retry(host, 1)).count();
        assert_eq!((taken("a"), taken("b"), taken("a")), (1, 1, 0));
        assert!(!budget.take_retry("c", 0));
    }
}
