//! Limits concurrent requests per host.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One semaphore for each host with requests in progress.
#[derive(Debug)]
pub(super) struct HostLimits {
    limit: usize,
    semaphores: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl HostLimits {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), semaphores: Mutex::default() }
    }

    /// Waits until a request to `host` is allowed. The permit ends with the request.
    pub(super) async fn acquire(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        let semaphore = {
            let mut semaphores = self.semaphores.lock().unwrap_or_else(PoisonError::into_inner);
            // The map holds the only reference to the semaphore of a host without requests.
            semaphores.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            Arc::clone(
                semaphores.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.limit))),
            )
        };
        semaphore.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn limit_applies_to_each_host_separately() {
        let limits = HostLimits::new(1);
        let first = limits.acquire("a").now_or_never().flatten();
        assert!(first.is_some());
        assert!(limits.acquire("a").now_or_never().is_none());
        assert!(limits.acquire("b").now_or_never().flatten().is_some());
        drop(first);
        assert!(limits.acquire("a").now_or_never().flatten().is_some());
        assert!(limits.semaphores.lock().unwrap().len() <= 2);
    }
}
