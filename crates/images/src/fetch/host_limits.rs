//! At most so many requests to one host at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A semaphore for each host that is being asked.
#[derive(Debug)]
pub(super) struct HostLimits {
    limit: usize,
    semaphores: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl HostLimits {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), semaphores: Mutex::default() }
    }

    /// Waits for a turn at `host`.
    pub(super) async fn acquire(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        let semaphore = {
            let mut semaphores = self.semaphores.lock().unwrap_or_else(PoisonError::into_inner);
            // A host that nobody asks or waits for is held by the map alone.
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
    async fn one_host_waits_and_others_do_not() {
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
