//! Images by URL: fetched within a room of their own, so that what strangers' servers send is bounded, too.

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
    errors::{Reason, Refusal},
    refusals::refuse_fetch,
    settings::{FetchSettings, RequestLimits},
    validate::Link,
};

/// A semaphore counts in `u32`; in KiB that is room enough.
const PERMIT_BYTES: usize = 1 << 10;

/// When a caller should come back whose images found no room: fetches are short, or end at their timeouts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Fetches the images of all calls. Clones share connections, limits and room.
#[derive(Clone, Debug)]
pub struct Fetching {
    /// Absent where fetching is switched off.
    way: Option<Way>,
    at_a_time: usize,
}

#[derive(Clone, Debug)]
struct Way {
    fetcher: Fetcher,
    room: Arc<Semaphore>,
    max_bytes: usize,
    patience: Duration,
}

/// A fetched file with the room that it takes: keep both until the file has been decoded.
#[derive(Debug)]
pub struct Fetched {
    /// The file, unseen.
    pub file: Bytes,
    /// Given back on drop.
    pub room: OwnedSemaphorePermit,
}

impl Fetching {
    /// Fetching as `settings` let it, of files that `limits` allow.
    ///
    /// # Errors
    /// What is wrong with the file of authorities, or with TLS.
    pub fn new(settings: &FetchSettings, limits: &RequestLimits) -> anyhow::Result<Self> {
        let mut config = settings.config(limits);
        if let Some(file) = &settings.fetch_ca_file {
            config.extra_authorities = authorities(file)?;
        }
        let at_a_time = config.max_requests_per_host.max(1);
        if settings.fetch_off {
            return Ok(Self { way: None, at_a_time });
        }
        let room = Arc::new(Semaphore::new(permits(settings.fetch_max_held_bytes) as usize));
        let (max_bytes, patience) = (config.max_bytes, config.total_timeout);
        let fetcher = Fetcher::new(config)?;
        Ok(Self { way: Some(Way { fetcher, room, max_bytes, patience }), at_a_time })
    }

    /// Images of one call that are fetched at a time.
    #[must_use]
    pub fn images_at_a_time(&self) -> usize {
        self.at_a_time
    }

    /// The file behind `link`, whose host is sent `headers` besides. Dropping the future gives the fetch up.
    ///
    /// # Errors
    /// A [`Refusal`] of the image.
    pub async fn fetch(&self, Link { url, field }: &Link, headers: HeaderMap) -> Result<Fetched, Refusal> {
        let Some(Way { fetcher, room, max_bytes, patience }) = &self.way else {
            return Err(Refusal::new(Reason::ImageUrlUnsupported).field(field.as_str()));
        };
        // How long the file is shows only once it is there, so at first it counts as the longest.
        let most = permits(*max_bytes);
        let taken = timeout(*patience, Arc::clone(room).acquire_many_owned(most)).await;
        // The semaphore is never closed: only patience ends.
        let Ok(Ok(mut room)) = taken else {
            return Err(Refusal::new(Reason::FetchingBusy).retry_after(RETRY_AFTER));
        };
        let file = fetcher.fetch_with(url, headers).await.map_err(|error| refuse_fetch(field, &error))?;
        drop(room.split(most.saturating_sub(permits(file.len())) as usize));
        Ok(Fetched { file, room })
    }
}

/// All certificates of a file, one at least.
fn authorities(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.with_context(|| format!("cannot read the authorities in {}", file.display()))?;
    anyhow::ensure!(!found.is_empty(), "there is no certificate in {}", file.display());
    Ok(found)
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// Comes without a network.
    const FOUR_BYTES: &str = "data:,four";

    async fn fetch(fetching: &Fetching, url: &str) -> Result<Fetched, Refusal> {
        let link = Link { url: url.to_owned(), field: "inputs[0].image.url".to_owned() };
        fetching.fetch(&link, HeaderMap::new()).await
    }

    fn fetching(settings: &Settings) -> Fetching {
        Fetching::new(&settings.fetch, &settings.limits).unwrap()
    }

    #[tokio::test]
    async fn switched_off_nothing_is_fetched() {
        let mut settings = Settings::default();
        settings.fetch.fetch_off = true;
        let refusal = fetch(&fetching(&settings), "https://example.org/cat.png").await.unwrap_err();
        assert_eq!(refusal.reason(), Reason::ImageUrlUnsupported);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetched_file_holds_its_own_length_of_room_until_it_is_dropped() {
        let mut settings = Settings::default();
        settings.fetch.fetch_max_bytes = 3 * PERMIT_BYTES;
        settings.fetch.fetch_max_held_bytes = 4 * PERMIT_BYTES;
        let fetching = fetching(&settings);
        let first = fetch(&fetching, FOUR_BYTES).await.unwrap();
        assert_eq!((first.file.as_ref(), first.room.num_permits()), (b"four".as_slice(), 1));
        let second = fetch(&fetching, FOUR_BYTES).await.unwrap();
        // Two permits are left, and a file that may need three finds no room.
        let refusal = fetch(&fetching, FOUR_BYTES).await.unwrap_err();
        assert_eq!(refusal.reason(), Reason::FetchingBusy);
        drop(first);
        assert!(fetch(&fetching, FOUR_BYTES).await.is_ok());
        drop(second);
    }

    #[tokio::test]
    async fn a_failed_fetch_gives_its_room_back() {
        let mut settings = Settings::default();
        settings.fetch.fetch_max_held_bytes = settings.limits.max_image_bytes;
        let fetching = fetching(&settings);
        for _ in 0..3 {
            let refusal = fetch(&fetching, "http://127.0.0.1/").await.unwrap_err();
            assert_eq!(refusal.reason(), Reason::UrlAddressRefused);
        }
    }
}
