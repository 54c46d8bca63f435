//! Fetches a URL through the cache, shared fetches and retries.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use reqwest::header::HeaderMap;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use url::Url;

use crate::fetch::{
    body_cache::BodyCache,
    config::FetchConfig,
    data_url,
    error::{FetchError, FetchPhase, SetupError},
    http_client::{FetchedBody, HttpClient},
    resolver::{Resolver, SystemResolver},
};

/// A fetcher of images by URL. Clones share connections, cache and limits.
///
/// Concurrent fetches of one URL are one request. It is cancelled when the last caller drops its
/// future.
#[derive(Clone, Debug)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

/// Counters since the fetcher was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchCounters {
    /// Requests sent, including retries, without redirects.
    pub attempts: u64,
    /// Requests sent again after transient errors.
    pub retries: u64,
    /// Images from the cache.
    pub cached: u64,
    /// Images from another caller's fetch of the same URL.
    pub shared: u64,
    /// Bytes of complete bodies.
    pub bytes: u64,
}

type PendingFetch = BoxFuture<'static, Result<FetchedBody, FetchError>>;

struct Inner {
    config: FetchConfig,
    client: HttpClient,
    request_slots: Semaphore,
    cache: Mutex<BodyCache>,
    pending: Mutex<HashMap<String, WeakShared<PendingFetch>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    attempts: AtomicU64,
    retries: AtomicU64,
    cached: AtomicU64,
    shared: AtomicU64,
    bytes: AtomicU64,
}

impl Fetcher {
    /// Creates a fetcher with the operating system's resolver.
    ///
    /// # Errors
    /// [`SetupError`] if TLS cannot be set up.
    pub fn new(config: FetchConfig) -> Result<Self, SetupError> {
        Self::with_resolver(config, Arc::new(SystemResolver))
    }

    /// Creates a fetcher with `resolver`, whose addresses are checked, too.
    ///
    /// # Errors
    /// [`SetupError`] if TLS cannot be set up.
    pub fn with_resolver(config: FetchConfig, resolver: Arc<dyn Resolver>) -> Result<Self, SetupError> {
        let inner = Inner {
            client: HttpClient::new(&config, resolver)?,
            request_slots: Semaphore::new(config.max_requests.max(1)),
            cache: Mutex::new(BodyCache::new(config.cache_bytes)),
            pending: Mutex::default(),
            counters: Counters::default(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Fetches the undecoded bytes of the image at `url`.
    ///
    /// Dropping the future cancels the fetch, unless another caller waits for the same URL.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        self.fetch_with(url, HeaderMap::new()).await
    }

    /// Fetches the undecoded bytes of the image at `url`, with additional request `headers`.
    ///
    /// The headers are sent to the origin of `url` only, not to other origins that it redirects to.
    /// They are not sent when the body is cached or another caller's fetch is in progress.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch_with(&self, url: &str, headers: HeaderMap) -> Result<Bytes, FetchError> {
        let inner = &self.inner;
        if data_url::is_data_url(url) {
            return data_url::decode(url, inner.config.max_bytes);
        }
        let url = inner.client.policy().parse(url)?;
        if let Some(body) = inner.cache().get(url.as_str(), Instant::now()) {
            add(&inner.counters.cached, 1);
            return Ok(body);
        }
        self.join_or_start(url, headers).await.map(|fetched| fetched.body)
    }

    /// Returns the counters since the fetcher was created.
    #[must_use]
    pub fn counters(&self) -> FetchCounters {
        let Counters { attempts, retries, cached, shared, bytes } = &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FetchCounters {
            attempts: read(attempts),
            retries: read(retries),
            cached: read(cached),
            shared: read(shared),
            bytes: read(bytes),
        }
    }

    /// Returns the pending fetch of `url`, or starts one.
    fn join_or_start(&self, url: Url, headers: HeaderMap) -> Shared<PendingFetch> {
        let mut pending = self.inner.pending();
        // A fetch that is complete, or whose callers have all left, cannot be joined.
        pending.retain(|_, fetch| fetch.upgrade().is_some_and(|fetch| fetch.peek().is_none()));
        if let Some(fetch) = pending.get(url.as_str()).and_then(WeakShared::upgrade) {
            add(&self.inner.counters.shared, 1);
            return fetch;
        }
        let key = url.as_str().to_owned();
        let inner = Arc::clone(&self.inner);
        let fetch = async move { inner.fetch_and_store(url, headers).await }.boxed().shared();
        if let Some(weak) = fetch.downgrade() {
            pending.insert(key, weak);
        }
        fetch
    }
}

impl Inner {
    /// Fetches `url` within the total timeout and stores a fresh body in the cache.
    async fn fetch_and_store(&self, url: Url, headers: HeaderMap) -> Result<FetchedBody, FetchError> {
        let limit = self.config.total_timeout;
        let attempts = timeout(limit, self.attempts(&url, &headers)).await;
        let fetched = attempts.map_err(|_| FetchError::Timeout { phase: FetchPhase::Total, limit })??;
        add(&self.counters.bytes, fetched.body.len() as u64);
        let lifetime = fetched.lifetime.min(self.config.cache_max_age);
        if lifetime > Duration::ZERO {
            self.cache().put(url.as_str(), fetched.body.clone(), Instant::now() + lifetime);
        }
        Ok(fetched)
    }

    async fn attempts(&self, url: &Url, headers: &HeaderMap) -> Result<FetchedBody, FetchError> {
        let mut pause = self.config.retry_pause;
        let mut retries_left = self.config.max_retries;
        loop {
            let attempt = {
                // The semaphore is never closed, so the result is always a permit.
                let _slot = self.request_slots.acquire().await;
                add(&self.counters.attempts, 1);
                self.client.get(url.clone(), headers).await
            };
            match attempt {
                Err(error) if error.is_transient() && retries_left > 0 => {
                    retries_left -= 1;
                    add(&self.counters.retries, 1);
                    sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                outcome => return outcome,
            }
        }
    }

    // Every change of the maps is one call, so a panic cannot leave them inconsistent.
    fn cache(&self) -> MutexGuard<'_, BodyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<String, WeakShared<PendingFetch>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("config", &self.config).finish_non_exhaustive()
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
