//! Fetches images by URL within a separate memory budget, so that remote servers cannot exhaust
//! memory.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::HeaderMap;
use images::fetch::Fetcher;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    config::sections::{fetch::FetchSettings, limits::RequestLimits},
    error::{ErrorReason, RequestError},
    preprocess::errors::fetch_error,
    request::item::ImageUrl,
};

/// The memory of one permit, in bytes. A semaphore counts permits in `u32`.
const PERMIT_BYTES: usize = 1 << 10;

/// When a client may retry after the memory budget was exhausted. A fetch ends by its timeout at
/// the latest.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Fetches the images of all calls. Clones share connections, limits and memory budget.
#[derive(Clone, Debug)]
pub struct ImageFetcher {
    /// `None` if fetcher is disabled.
    mode: Option<FetchMode>,
    images_at_a_time: usize,
}

#[derive(Clone, Debug)]
struct FetchMode {
    fetcher: Fetcher,
    budget: Arc<Semaphore>,
    max_bytes: usize,
    budget_timeout: Duration,
}

/// A fetched file with the memory that it occupies. The caller holds both until the file is
/// decoded.
#[derive(Debug)]
pub struct Fetched {
    /// The encoded image.
    pub file: Bytes,
    /// The memory, released on drop.
    pub permit: OwnedSemaphorePermit,
}

impl ImageFetcher {
    /// Creates a fetcher with the policy of `settings` for files within `limits`.
    ///
    /// # Errors
    /// Invalid certificates in the file of authorities, or an error of TLS.
    pub fn new(settings: &FetchSettings, limits: &RequestLimits) -> anyhow::Result<Self> {
        let mut config = settings.config(limits);
        if let Some(file) = &settings.fetch_ca_file {
            config.extra_authorities = authorities(file)?;
        }
        let images_at_a_time = config.max_requests_per_host.max(1);
        if !settings.fetch_enabled {
            return Ok(Self { mode: None, images_at_a_time });
        }
        let budget = Arc::new(Semaphore::new(permits(settings.fetch_max_memory_bytes) as usize));
        let (max_bytes, budget_timeout) = (config.max_bytes, config.total_timeout);
        let fetcher = Fetcher::new(config)?;
        Ok(Self { mode: Some(FetchMode { fetcher, budget, max_bytes, budget_timeout }), images_at_a_time })
    }

    /// Returns how many images of one call are fetched at the same time.
    #[must_use]
    pub fn images_at_a_time(&self) -> usize {
        self.images_at_a_time
    }

    /// Fetches the file at the URL. `headers` are added to the request. Dropping the future cancels
    /// the fetch.
    ///
    /// # Errors
    /// A [`RequestError`] of the image.
    pub async fn fetch(
        &self,
        ImageUrl { url, field }: &ImageUrl,
        headers: HeaderMap,
    ) -> Result<Fetched, RequestError> {
        let Some(FetchMode { fetcher, budget, max_bytes, budget_timeout }) = &self.mode else {
            return Err(RequestError::new(ErrorReason::ImageUrlUnsupported).field(field.as_str()));
        };
        // The size of the file is unknown until it is complete, so the maximum is reserved first.
        let max_permits = permits(*max_bytes);
        let acquired = timeout(*budget_timeout, Arc::clone(budget).acquire_many_owned(max_permits)).await;
        // The semaphore is never closed, so an error is a timeout.
        let Ok(Ok(mut permit)) = acquired else {
            return Err(RequestError::new(ErrorReason::FetchingBusy).retry_after(RETRY_AFTER));
        };
        let file = fetcher.fetch_with(url, headers).await.map_err(|error| fetch_error(field, &error))?;
        drop(permit.split(max_permits.saturating_sub(permits(file.len())) as usize));
        Ok(Fetched { file, permit })
    }
}

/// Reads the certificates of a file. It must hold at least one.
fn authorities(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.with_context(|| format!("cannot read the authorities in {}", file.display()))?;
    anyhow::ensure!(!found.is_empty(), "no certificate in {}", file.display());
    Ok(found)
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    /// A URL that needs no network.
    const FOUR_BYTES: &str = "data:,four";

    async fn fetch(fetcher: &ImageFetcher, url: &str) -> Result<Fetched, RequestError> {
        let image_url = ImageUrl { url: url.to_owned(), field: "inputs[0].image.url".to_owned() };
        fetcher.fetch(&image_url, HeaderMap::new()).await
    }

    fn fetcher(settings: &Settings) -> ImageFetcher {
        ImageFetcher::new(&settings.fetch, &settings.limits).unwrap()
    }

    #[tokio::test]
    async fn disabled_fetcher_rejects_urls() {
        let mut settings = Settings::default();
        settings.fetch.fetch_enabled = false;
        let error = fetch(&fetcher(&settings), "https://example.org/cat.png").await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::ImageUrlUnsupported);
    }

    #[tokio::test(start_paused = true)]
    async fn fetched_file_holds_memory_of_its_size_until_drop() {
        let mut settings = Settings::default();
        settings.fetch.fetch_max_bytes = 3 * PERMIT_BYTES;
        settings.fetch.fetch_max_memory_bytes = 4 * PERMIT_BYTES;
        let fetcher = fetcher(&settings);
        let first = fetch(&fetcher, FOUR_BYTES).await.unwrap();
        assert_eq!((first.file.as_ref(), first.permit.num_permits()), (b"four".as_slice(), 1));
        let second = fetch(&fetcher, FOUR_BYTES).await.unwrap();
        // Two permits are left, but a file may need three.
        let error = fetch(&fetcher, FOUR_BYTES).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::FetchingBusy);
        drop(first);
        assert!(fetch(&fetcher, FOUR_BYTES).await.is_ok());
        drop(second);
    }

    #[tokio::test]
    async fn failed_fetch_releases_its_memory() {
        let mut settings = Settings::default();
        settings.fetch.fetch_max_memory_bytes = settings.limits.max_image_bytes;
        let fetcher = fetcher(&settings);
        for _ in 0..3 {
            let error = fetch(&fetcher, "http://127.0.0.1/").await.unwrap_err();
            assert_eq!(error.reason(), ErrorReason::UrlAddressRefused);
        }
    }
}
