//! Fetches images by URL. A caller has a share of the requests and of the memory, so that neither
//! callers nor remote servers exhaust them.

mod caller_account;
mod request_slots;
mod body_budget;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use http::HeaderMap;
use images::fetch::{FetchCall, FetchError, FetchedImage, Fetcher, RequestBudget};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    config::sections::{fetch::FetchSettings, limits::RequestLimits},
    error::{ErrorReason, RequestError},
    fair_share::Caller,
    preprocess::{
        errors::fetch_error,
        fetch::{
            body_budget::BodyBudget,
            caller_account::{CallerAccount, FetchLimits},
            request_slots::RequestSlots,
        },
    },
    request::item::ImageUrl,
};

/// The maximum size of the file of authorities, in bytes.
const MAX_AUTHORITIES_BYTES: u64 = 16 << 20;

/// When a client may retry after its fetch found no free request or memory. A fetch ends by its
/// timeout at the latest.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Fetches the images of all calls. Clones share connections and limits.
#[derive(Clone, Debug)]
pub struct ImageFetcher {
    /// `None` if fetching is disabled.
    mode: Option<FetchMode>,
    images_at_a_time: usize,
}

#[derive(Clone, Debug)]
struct FetchMode {
    fetcher: Fetcher,
    limits: FetchLimits,
}

/// Fetches the images of one call.
#[derive(Clone, Debug)]
pub struct CallFetcher {
    fetcher: ImageFetcher,
    caller: Caller,
    requests: Arc<RequestBudget>,
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
        let images_at_a_time = settings.fetch_max_requests_per_host.max(1);
        if !settings.fetch_enabled {
            return Ok(Self { mode: None, images_at_a_time });
        }
        let slots = RequestSlots::new(settings.fetch_max_requests, settings.fetch_max_requests_per_host);
        let budget = BodyBudget::new(settings.fetch_max_memory_bytes);
        let limits = FetchLimits { slots: Arc::new(slots), budget: Arc::new(budget) };
        Ok(Self { mode: Some(FetchMode { fetcher: Fetcher::new(config)?, limits }), images_at_a_time })
    }

    /// Returns a fetcher for a call of `caller` with `images` in all.
    #[must_use]
    pub fn for_call(&self, caller: Caller, images: usize) -> CallFetcher {
        CallFetcher { fetcher: self.clone(), caller, requests: Arc::new(RequestBudget::new(images)) }
    }
}

impl CallFetcher {
    /// Returns how many images of the call are fetched at the same time.
    #[must_use]
    pub fn images_at_a_time(&self) -> usize {
        self.fetcher.images_at_a_time
    }

    /// Fetches the file at the URL. `headers` are added to the request. Dropping the future cancels
    /// the fetch. The caller holds the memory of the file until it is decoded.
    ///
    /// # Errors
    /// A [`RequestError`] of the image.
    pub async fn fetch(
        &self,
        ImageUrl { url, field }: &ImageUrl,
        headers: HeaderMap,
    ) -> Result<FetchedImage, RequestError> {
        let Some(FetchMode { fetcher, limits }) = &self.fetcher.mode else {
            return Err(RequestError::new(ErrorReason::ImageUrlUnsupported).field(field.as_str()));
        };
        let account = Arc::new(CallerAccount { limits: limits.clone(), caller: self.caller });
        let call = FetchCall { account, requests: Arc::clone(&self.requests), headers };
        fetcher.fetch(url, &call).await.map_err(|error| match error {
            FetchError::Busy => fetch_error(field, &error).retry_after(RETRY_AFTER),
            error => fetch_error(field, &error),
        })
    }
}

/// Reads the certificates of a file. It must hold at least one.
fn authorities(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("cannot read the authorities in {}", file.display());
    let pem = regular_file::read(file, MAX_AUTHORITIES_BYTES).with_context(unreadable)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.with_context(unreadable)?;
    anyhow::ensure!(!found.is_empty(), "no certificate in {}", file.display());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    /// A URL that needs no network.
    const FOUR_BYTES: &str = "data:,four";

    async fn fetch(fetcher: &ImageFetcher, url: &str) -> Result<FetchedImage, RequestError> {
        let image_url = ImageUrl { url: url.to_owned(), field: "inputs[0].image.url".to_owned() };
        fetcher.for_call(Caller::SERVER, 1).fetch(&image_url, HeaderMap::new()).await
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

    #[tokio::test]
    async fn file_holds_memory_of_its_size_until_drop() {
        let mut settings = Settings::default();
        settings.fetch.fetch_max_memory_bytes = 8;
        let fetcher = fetcher(&settings);
        let first = fetch(&fetcher, FOUR_BYTES).await.unwrap();
        assert_eq!(first.bytes.as_ref(), b"four");
        let second = fetch(&fetcher, FOUR_BYTES).await;
        let error = second.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::FetchingBusy);
        drop(first);
        assert!(fetch(&fetcher, FOUR_BYTES).await.is_ok());
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
