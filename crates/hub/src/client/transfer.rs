//! One file from the hub into the cache: under a lock, from where an earlier download broke off, bounded by the size that
//! the hub declares, checked by its hash.

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

/// How much is written and hashed at a time, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// How much has to come before a failure counts as the first again, in bytes.
const RETRY_RESET_BYTES: u64 = 1 << 20;

/// What a download needs beside the file.
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
    /// Sees to it that the snapshot has `remote`.
    pub(crate) async fn run(&self, remote: &RemoteFile) -> Result<(), HubError> {
        if self.has_blob(remote) {
            self.progress.skip(remote.size);
        } else {
            let lock = self.repository.lock(&remote.tag);
            let lock = FileLock::acquire(&lock, self.config.lock_timeout, self.sleeper).await?;
            // Whoever held the lock has most likely just finished.
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
        let (path, owned) = (self.repository.partial(&remote.tag), remote.clone());
        let mut partial = blocking(move || PartialBlob::open(path, &owned, lock)).await?;
        self.progress.skip(partial.length());
        let mut is_resumed = partial.length() > 0;
        let mut attempts = Backoff::new();
        // Of a download that has to start anew, only what is new counts: its failures come to an end.
        let mut furthest = partial.length();
        loop {
            let failure;
            (partial, failure) = self.receive(remote, partial).await?;
            if let Some(failure) = failure {
                if partial.length() >= furthest + RETRY_RESET_BYTES {
                    attempts = Backoff::new();
                    furthest = partial.length();
                }
                attempts.wait_after(failure, self.sleeper).await?;
                continue;
            }
            match partial.verify(remote) {
                Ok(()) => break,
                // What an earlier download left was of something else.
                Err(error) if is_resumed => {
                    tracing::warn!(%error, "starting again from nothing");
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

    /// Asks for what is missing and writes what comes, until all is there or something fails.
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
                return Err(protocol_error(
                    &body,
                    remote,
                    format!("it is longer than {} bytes", remote.size),
                ));
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
                format!("it ended after {} of {} bytes", partial.length(), remote.size),
            ),
            retry: Retry::AfterBackoff,
        });
        Ok((partial, failure))
    }

    /// Opens the content at the first byte that is missing. A server that cannot do so starts anew.
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
                        format!("asked for what follows byte {from} of {}, it sent {range:?}", remote.size);
                    return Err(protocol_error(&body, remote, reason).into());
                }
            }
            status => {
                return Err(protocol_error(&body, remote, format!("it answered {}", status.as_u16())).into());
            }
        }
        Ok(body)
    }

    fn restart(&self, partial: &mut PartialBlob) -> Result<(), HubError> {
        self.progress.rewind(partial.length());
        partial.restart()
    }
}

/// The next [`WRITE_BYTES`] or a little more; less at the end, or when something fails.
async fn read_block(body: &mut Body, what: &str) -> (Vec<u8>, Option<RequestFailure>) {
    let mut bytes = Vec::with_capacity(WRITE_BYTES);
    while bytes.len() < WRITE_BYTES {
        match body.chunk(what).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(chunk.as_ref()),
            Ok(None) => break,
            Err(failure) => return (bytes, Some(failure)),
        }
    }
    (bytes, None)
}

/// Whether a `Content-Range` is of the bytes from `from` to the end of `size`.
fn continues(range: &str, from: u64, size: u64) -> bool {
    range.trim() == format!("bytes {from}-{}/{size}", size.saturating_sub(1))
}

fn protocol_error(body: &Body, remote: &RemoteFile, reason: String) -> HubError {
    HubError::Protocol { host: body.host().to_owned(), what: remote.name.clone(), reason }
}

/// Runs what waits for the disk where nothing else waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}
