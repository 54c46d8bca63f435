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
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::fetch::{
    account::{Account, BodyMemory, FetchCall},
    body_cache::BodyCache,
    config::FetchConfig,
    data_url,
    error::{FetchError, FetchPhase, SetupError},
    http_client::{FetchedBody, HttpClient, Turn},
    resolver::{Resolver, SystemResolver},
};

/// A fetcher of images by URL. Clones share connections, cache and limits.
///
/// Concurrent fetches of one URL by one caller are one request. It is cancelled when the last of
/// their futures is dropped.
#[derive(Clone, Debug)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

/// An image file that is not decoded.
#[derive(Clone, Debug)]
pub struct FetchedImage {
    /// The content of the file.
    pub bytes: Bytes,
    /// The memory of the content, to be dropped after it.
    pub memory: Arc<dyn BodyMemory>,
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
    /// Images from a fetch of the same URL by the same caller.
    pub shared: u64,
    /// Bytes of complete bodies.
    pub bytes: u64,
}

type PendingFetch = BoxFuture<'static, Result<FetchedBody, FetchError>>;

/// A caller and a URL.
type PendingKey = (u64, String);

struct Inner {
    config: FetchConfig,
    client: HttpClient,
    cache: Mutex<BodyCache>,
    pending: Mutex<HashMap<PendingKey, WeakShared<PendingFetch>>>,
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
            cache: Mutex::new(BodyCache::new(config.cache_bytes)),
            pending: Mutex::default(),
            counters: Counters::default(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Fetches the image at `url` for `call`.
    ///
    /// The headers of the call are not sent when the body is cached, or when a fetch of the same
    /// URL by the same caller is in progress. Dropping the future cancels the fetch, unless the
    /// caller has another one that waits for the same URL.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, url: &str, call: &FetchCall) -> Result<FetchedImage, FetchError> {
        let inner = &self.inner;
        if data_url::is_data_url(url) {
            let bytes = data_url::decode(url, inner.config.max_bytes)?;
            return self.with_memory(bytes, &*call.account).await;
        }
        let url = inner.client.policy().parse(url)?;
        let cached = inner.cache().get(url.as_str(), Instant::now());
        if let Some(bytes) = cached {
            add(&inner.counters.cached, 1);
            return self.with_memory(bytes, &*call.account).await;
        }
        let FetchedBody { body, memory, .. } = self.join_or_start(url, call.clone()).await?;
        Ok(FetchedImage { bytes: body, memory })
    }

    /// Reserves memory for `bytes`, which are already there.
    async fn with_memory(&self, bytes: Bytes, account: &dyn Account) -> Result<FetchedImage, FetchError> {
        let length = bytes.len();
        let waiting = timeout(self.inner.config.total_timeout, account.body(length)).await;
        let mut memory = waiting.map_err(|_| FetchError::Busy)?;
        memory.grow(length).map_err(|_| FetchError::Busy)?;
        memory.complete(length);
        Ok(FetchedImage { bytes, memory: memory.into() })
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

    /// Returns the caller's pending fetch of `url`, or starts one.
    fn join_or_start(&self, url: Url, call: FetchCall) -> Shared<PendingFetch> {
        let mut pending = self.inner.pending();
        // A fetch that is complete, or whose callers have all left, cannot be joined.
        pending.retain(|_, fetch| fetch.upgrade().is_some_and(|fetch| fetch.peek().is_none()));
        let key = (call.account.id(), url.as_str().to_owned());
        if let Some(fetch) = pending.get(&key).and_then(WeakShared::upgrade) {
            add(&self.inner.counters.shared, 1);
            return fetch;
        }
        let inner = Arc::clone(&self.inner);
        let fetch = async move { inner.fetch_and_store(url, call).await }.boxed().shared();
        if let Some(weak) = fetch.downgrade() {
            pending.insert(key, weak);
        }
        fetch
    }
}

impl Inner {
    /// Fetches `url` within the total timeout and stores a fresh body in the cache.
    async fn fetch_and_store(&self, url: Url, call: FetchCall) -> Result<FetchedBody, FetchError> {
        let (limit, turn) = (self.config.total_timeout, Turn::default());
        let fetched = match timeout(limit, self.attempts(&url, &call, &turn)).await {
            Ok(fetched) => fetched?,
            Err(_) if turn.is_awaited() => return Err(FetchError::Busy),
            Err(_) => return Err(FetchError::Timeout { phase: FetchPhase::Total, limit }),
        };
        add(&self.counters.bytes, fetched.body.len() as u64);
        let lifetime = fetched.lifetime.min(self.config.cache_max_age);
        if lifetime > Duration::ZERO {
            self.cache().put(url.as_str(), fetched.body.clone(), Instant::now() + lifetime);
        }
        Ok(fetched)
    }

    async fn attempts(&self, url: &Url, call: &FetchCall, turn: &Turn) -> Result<FetchedBody, FetchError> {
        let host = url.host_str().unwrap_or_default();
        let mut pause = self.config.retry_pause;
        loop {
            add(&self.counters.attempts, 1);
            match self.client.get(url.clone(), call, turn).await {
                Err(error)
                    if error.is_transient() && call.requests.take_retry(host, self.config.max_retries) =>
                {
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

    fn pending(&self) -> MutexGuard<'_, HashMap<PendingKey, WeakShared<PendingFetch>>> {
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
