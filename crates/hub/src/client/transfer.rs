//! Downloads one file from the hub into the cache.
//!
//! A transfer locks the blob, resumes a partial download, limits the size to the declared one, and
//! verifies the hash.

use reqwest::{StatusCode, header::CONTENT_RANGE};

use crate::{
    client::{
        hub_client::{Body, HubClient},
        listing::{content_url, repository_error},
        retry::{Backoff, RequestFailure, Retry},
    },
    config::Config,
    error::HubError,
    files::{
        cached_repository::CachedRepository, file_lock::FileLock, partial_blob::PartialBlob,
        remote_file::RemoteFile,
    },
    progress::Progress,
    repository_name::RepositoryName,
    sleeper::Sleeper,
};

/// Size of the blocks that are written and hashed, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// Number of received bytes after which the backoff starts again.
const RETRY_RESET_BYTES: u64 = 1 << 20;

/// The context of the downloads of one snapshot.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a HubClient,
    pub(crate) config: &'a Config,
    pub(crate) sleeper: &'a Sleeper,
    pub(crate) progress: &'a Progress,
    pub(crate) repository: &'a CachedRepository,
    pub(crate) model: &'a RepositoryName,
    pub(crate) commit: &'a str,
}

impl Transfer<'_> {
    /// Adds the file `remote` to the snapshot, and downloads it if the cache lacks it.
    pub(crate) async fn run(&self, remote: &RemoteFile) -> Result<(), HubError> {
        if self.has_blob(remote) {
            self.progress.skip(remote.size);
        } else {
            let lock = self.repository.lock(&remote.tag);
            let lock = FileLock::acquire(&lock, self.config.lock_timeout, self.sleeper).await?;
            // Another process may have downloaded the blob while this one waited for the lock.
            if self.has_blob(remote) {
                self.progress.skip(remote.size);
            } else {
                self.download(remote, lock).await?;
            }
        }
        self.repository.link(self.commit, &remote.name, &remote.tag)
    }

    fn has_blob(&self, remote: &RemoteFile) -> bool {
        let blob = std::fs::metadata(self.repository.blob(&remote.tag));
        blob.is_ok_and(|blob| blob.is_file() && blob.len() == remote.size)
    }

    async fn download(&self, remote: &RemoteFile, lock: FileLock) -> Result<(), HubError> {
        let (path, file) = (self.repository.partial(&remote.tag), remote.clone());
        let mut partial = blocking(move || PartialBlob::open(path, &file, lock)).await?;
        self.progress.skip(partial.length());
        let mut is_resumed = partial.length() > 0;
        let mut backoff = Backoff::new();
        // Only bytes beyond the furthest position reset the backoff. This bounds the restarts.
        let mut furthest = partial.length();
        loop {
            let failure;
            (partial, failure) = self.receive(remote, partial).await?;
            if let Some(failure) = failure {
                if partial.length() >= furthest + RETRY_RESET_BYTES {
                    backoff = Backoff::new();
                    furthest = partial.length();
                }
                backoff.wait_after(failure, self.sleeper).await?;
                continue;
            }
            match partial.verify(remote) {
                Ok(()) => break,
                // The partial download was of another content.
                Err(error) if is_resumed => {
                    tracing::warn!(%error, "partial download discarded; restarting");
                    is_resumed = false;
                    self.restart(&mut partial)?;
                }
                Err(error) => {
                    partial.discard()?;
                    return Err(error);
                }
            }
        }
        let blob = self.repository.blob(&remote.tag);
        blocking(move || partial.finish(&blob)).await
    }

    /// Downloads the missing bytes until the file is complete or a request fails.
    async fn receive(
        &self,
        remote: &RemoteFile,
        mut partial: PartialBlob,
    ) -> Result<(PartialBlob, Option<RequestFailure>), HubError> {
        if partial.remaining() == 0 {
            return Ok((partial, None));
        }
        let mut body = match self.open(remote, &mut partial).await {
            Ok(body) => body,
            Err(failure) => return Ok((partial, Some(failure))),
        };
        loop {
            let (bytes, failure) = read_block(&mut body, &remote.name).await;
            let is_end = bytes.len() < WRITE_BYTES;
            if bytes.len() as u64 > partial.remaining() {
                partial.discard()?;
                return Err(protocol_error(&body, remote, format!("longer than {} bytes", remote.size)));
            }
            self.progress.advance(bytes.len() as u64);
            partial = blocking(move || partial.append(&bytes).map(|()| partial)).await?;
            if failure.is_some() {
                return Ok((partial, failure));
            }
            if is_end {
                break;
            }
        }
        let failure = (partial.remaining() > 0).then(|| RequestFailure {
            error: protocol_error(
                &body,
                remote,
                format!("ended after {} of {} bytes", partial.length(), remote.size),
            ),
            retry: Retry::AfterBackoff,
        });
        Ok((partial, failure))
    }

    /// Requests the content from the first missing byte.
    ///
    /// If the server does not support ranges, the download restarts.
    async fn open(&self, remote: &RemoteFile, partial: &mut PartialBlob) -> Result<Body, RequestFailure> {
        let url = content_url(self.model, self.commit, &remote.name, self.client);
        let from = partial.length();
        let body = match self.client.open(url, from, &remote.name).await {
            Ok(body) => body,
            Err(RequestFailure { error: error @ HubError::Status { status: 416, .. }, .. }) if from > 0 => {
                self.restart(partial)?;
                return Err(RequestFailure { error, retry: Retry::AfterBackoff });
            }
            Err(failure) => return Err(repository_error(failure, self.model, self.client)),
        };
        match body.status() {
            StatusCode::OK => {
                if from > 0 {
                    self.restart(partial)?;
                }
            }
            StatusCode::PARTIAL_CONTENT if from > 0 => {
                let range = body.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                if !range.is_some_and(|range| continues(range, from, remote.size)) {
                    let reason =
                        format!("range {range:?}, expected bytes from {from} to the end of {}", remote.size);
                    return Err(protocol_error(&body, remote, reason).into());
                }
            }
            status => {
                return Err(
                    protocol_error(&body, remote, format!("unexpected status {}", status.as_u16())).into()
                );
            }
        }
        Ok(body)
    }

    fn restart(&self, partial: &mut PartialBlob) -> Result<(), HubError> {
        self.progress.rewind(partial.length());
        partial.restart()
    }
}

/// Reads at least [`WRITE_BYTES`]. Reads less at the end or when the request fails.
async fn read_block(body: &mut Body, resource: &str) -> (Vec<u8>, Option<RequestFailure>) {
    let mut bytes = Vec::with_capacity(WRITE_BYTES);
    while bytes.len() < WRITE_BYTES {
        match body.chunk(resource).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(chunk.as_ref()),
            Ok(None) => break,
            Err(failure) => return (bytes, Some(failure)),
        }
    }
    (bytes, None)
}

/// Whether the `Content-Range` is the bytes from `from` to the end of a file of `size` bytes.
fn continues(range: &str, from: u64, size: u64) -> bool {
    range.trim() == format!("bytes {from}-{}/{size}", size.saturating_sub(1))
}

fn protocol_error(body: &Body, remote: &RemoteFile, reason: String) -> HubError {
    HubError::Protocol { host: body.host().to_owned(), resource: remote.name.clone(), reason }
}

/// Runs disk operations on a blocking thread, so that no async task waits for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and cancels this task.
            Err(_) => std::future::pending().await,
        },
    }
}
