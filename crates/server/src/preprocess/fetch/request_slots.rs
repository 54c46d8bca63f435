//! The requests that are in progress, for each host and in all.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::fair_share::{Caller, FairShare, Share};

/// Places for requests. A caller holds its share of them, of each host and of all.
#[derive(Debug)]
pub(super) struct RequestSlots {
    all: FairShare,
    per_host: usize,
    hosts: Mutex<HashMap<String, HostSlots>>,
    released: Notify,
}

/// The places of a host with requests in progress.
#[derive(Debug)]
struct HostSlots {
    places: FairShare,
    requests: usize,
}

impl RequestSlots {
    pub(super) fn new(all: usize, per_host: usize) -> Self {
        Self {
            all: FairShare::new(all.max(1)),
            per_host: per_host.max(1),
            hosts: Mutex::default(),
            released: Notify::new(),
        }
    }

    /// Waits for a place for a request of `caller` to `host`. Nothing is held meanwhile.
    pub(super) async fn acquire(self: Arc<Self>, caller: Caller, host: String) -> RequestSlot {
        loop {
            let mut released = pin!(self.released.notified());
            // A place that is released after this line is not missed.
            released.as_mut().enable();
            if let Some(places) = self.try_take(caller, &host) {
                return RequestSlot { slots: Arc::clone(&self), host, places: Some(places) };
            }
            released.await;
        }
    }

    fn try_take(&self, caller: Caller, host: &str) -> Option<[Share; 2]> {
        let mut hosts = self.hosts();
        let places = hosts.get(host).map(|host| host.places.clone());
        let places = places.unwrap_or_else(|| FairShare::new(self.per_host));
        let taken = [places.reserve(caller, 1).ok()?, self.all.reserve(caller, 1).ok()?];
        hosts.entry(host.to_owned()).or_insert(HostSlots { places, requests: 0 }).requests += 1;
        Some(taken)
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, HostSlots>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for one request, until it is dropped.
#[derive(Debug)]
pub(super) struct RequestSlot {
    slots: Arc<RequestSlots>,
    host: String,
    /// Of the host and of all. `None` while it is dropped.
    places: Option<[Share; 2]>,
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        let mut hosts = self.slots.hosts();
        self.places = None;
        if let Some(host) = hosts.get_mut(&self.host) {
            host.requests -= 1;
            if host.requests == 0 {
                hosts.remove(&self.host);
            }
        }
        drop(hosts);
        self.slots.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use scheduler::ClientId;

    use super::*;

    fn caller(id: u64) -> Caller {
        Caller { id: ClientId(id), weight: 1 }
    }

    fn take(slots: &Arc<RequestSlots>, id: u64, host: &str) -> Option<RequestSlot> {
        Arc::clone(slots).acquire(caller(id), host.to_owned()).now_or_never()
    }

    fn take_all(slots: &Arc<RequestSlots>, id: u64, host: &str) -> Vec<RequestSlot> {
        std::iter::from_fn(|| take(slots, id, host)).collect()
    }

    #[test]
    fn caller_that_waits_at_a_host_leaves_other_hosts_free() {
        let slots = Arc::new(RequestSlots::new(64, 8));
        let held = take_all(&slots, 1, "hangs");
        assert_eq!(held.len(), 7, "one place is left for others");
        assert!(take(&slots, 2, "hangs").is_some());
        assert!(take(&slots, 1, "quick").is_some());
        assert_eq!(take_all(&slots, 2, "quick").len(), 7);
    }

    #[test]
    fn caller_leaves_places_for_others_at_every_host() {
        let slots = Arc::new(RequestSlots::new(64, 8));
        let hosts: Vec<String> = (0..20).map(|host| format!("host-{host}")).collect();
        let first: Vec<_> = hosts.iter().flat_map(|host| take_all(&slots, 1, host)).collect();
        assert!((50..64).contains(&first.len()), "{}", first.len());
        assert!(!take_all(&slots, 2, "other").is_empty());
    }

    #[test]
    fn hosts_without_requests_are_forgotten() {
        let slots = Arc::new(RequestSlots::new(2, 1));
        let slot = take(&slots, 1, "a").unwrap();
        assert!(take(&slots, 1, "a").is_none() && take(&slots, 2, "a").is_none());
        drop(slot);
        assert!(slots.hosts().is_empty());
        assert!(take(&slots, 2, "a").is_some());
    }

    #[tokio::test]
    async fn waiting_request_gets_a_released_place() {
        let slots = Arc::new(RequestSlots::new(8, 1));
        let first = take(&slots, 1, "a").unwrap();
        let mut second = pin!(Arc::clone(&slots).acquire(caller(2), "a".to_owned()));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        second.await;
    }
}
