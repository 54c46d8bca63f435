//! Fetched images, kept while they are fresh, within a number of bytes.

use bytes::Bytes;
use lru::LruCache;
use tokio::time::Instant;

/// Bodies by URL. The one that was not asked for the longest goes first.
#[derive(Debug)]
pub(super) struct Cache {
    limit: usize,
    held: usize,
    entries: LruCache<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    body: Bytes,
    stale_from: Instant,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: 0, entries: LruCache::unbounded() }
    }

    pub(super) fn get(&mut self, url: &str, now: Instant) -> Option<Bytes> {
        let entry = self.entries.get(url)?;
        if entry.stale_from > now {
            return Some(entry.body.clone());
        }
        if let Some(stale) = self.entries.pop(url) {
            self.held -= weight(url, &stale.body);
        }
        None
    }

    pub(super) fn put(&mut self, url: &str, body: Bytes, stale_from: Instant) {
        let added = weight(url, &body);
        if added > self.limit {
            return;
        }
        if let Some(old) = self.entries.put(url.to_owned(), Entry { body, stale_from }) {
            self.held -= weight(url, &old.body);
        }
        self.held += added;
        while self.held > self.limit {
            let Some((url, oldest)) = self.entries.pop_lru() else { break };
            self.held -= weight(&url, &oldest.body);
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
    async fn image_is_kept_until_it_is_stale() {
        let mut cache = Cache::new(100);
        let stale_from = Instant::now() + Duration::from_secs(10);
        cache.put("a", body(10), stale_from);
        assert!(cache.get("a", Instant::now()).is_some());
        assert!(cache.get("a", stale_from).is_none());
        assert_eq!(cache.held, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn least_recently_asked_for_goes_first_and_bytes_stay_bounded() {
        let mut cache = Cache::new(100);
        let later = Instant::now() + Duration::from_secs(10);
        cache.put("a", body(40), later);
        cache.put("b", body(40), later);
        assert!(cache.get("a", Instant::now()).is_some());
        cache.put("c", body(40), later);
        assert!(cache.get("b", Instant::now()).is_none());
        cache.put("a", body(10), later);
        assert_eq!(cache.held, 41 + 11);
        cache.put("whale", body(100), later);
        assert_eq!(cache.held, 41 + 11);
    }
}
