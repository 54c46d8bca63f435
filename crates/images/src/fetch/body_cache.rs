//! A cache of fetched bodies, limited in bytes.

use bytes::Bytes;
use lru::LruCache;
use tokio::time::Instant;

/// Fresh bodies by URL. The least recently used body is evicted first.
#[derive(Debug)]
pub(super) struct BodyCache {
    max_bytes: usize,
    stored_bytes: usize,
    entries: LruCache<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    body: Bytes,
    stale_from: Instant,
}

impl BodyCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, stored_bytes: 0, entries: LruCache::unbounded() }
    }

    pub(super) fn get(&mut self, url: &str, now: Instant) -> Option<Bytes> {
        let entry = self.entries.get(url)?;
        if entry.stale_from > now {
            return Some(entry.body.clone());
        }
        if let Some(stale) = self.entries.pop(url) {
            self.stored_bytes -= weight(url, &stale.body);
        }
        None
    }

    pub(super) fn put(&mut self, url: &str, body: Bytes, stale_from: Instant) {
        let added = weight(url, &body);
        if added > self.max_bytes {
            return;
        }
        if let Some(old) = self.entries.put(url.to_owned(), Entry { body, stale_from }) {
            self.stored_bytes -= weight(url, &old.body);
        }
        self.stored_bytes += added;
        while self.stored_bytes > self.max_bytes {
            let Some((url, oldest)) = self.entries.pop_lru() else { break };
            self.stored_bytes -= weight(&url, &oldest.body);
        }
    }
}

fn weight(url: &str, body: &Bytes) -> usize {
    url.len() + body.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn body(length: usize) -> Bytes {
        vec![0; length].into()
    }

    #[tokio::test(start_paused = true)]
    async fn body_is_returned_until_it_is_stale() {
        let mut cache = BodyCache::new(100);
        let stale_from = Instant::now() + Duration::from_secs(10);
        cache.put("a", body(10), stale_from);
        assert!(cache.get("a", Instant::now()).is_some());
        assert!(cache.get("a", stale_from).is_none());
        assert_eq!(cache.stored_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn least_recently_used_body_is_evicted_first() {
        let mut cache = BodyCache::new(100);
        let later = Instant::now() + Duration::from_secs(10);
        cache.put("a", body(40), later);
        cache.put("b", body(40), later);
        assert!(cache.get("a", Instant::now()).is_some());
        cache.put("c", body(40), later);
        assert!(cache.get("b", Instant::now()).is_none());
        cache.put("a", body(10), later);
        assert_eq!(cache.stored_bytes, 41 + 11);
        cache.put("too_large", body(100), later);
        assert_eq!(cache.stored_bytes, 41 + 11);
    }
}
