//! Fetches a model by name into a folder with its checkpoint.

use std::{fs, path::PathBuf};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    client::{
        hub_client::HubClient,
        listing::{self, Listing},
        retry::{Backoff, RequestFailure},
        transfer::Transfer,
    },
    config::Config,
    error::HubError,
    files::{
        cached_repository::CachedRepository,
        checkpoint_files,
        disk::{create_folder, free_bytes},
        remote_file::RemoteFile,
    },
    progress::Progress,
    repository_name::RepositoryName,
    sleeper::Sleeper,
};

/// A client of one hub with its cache.
#[derive(Debug)]
pub struct Hub {
    client: HubClient,
    config: Config,
    sleeper: Sleeper,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder with the files of the checkpoint, in Hugging Face's layout.
    pub folder: PathBuf,
    /// The commit of the files.
    pub commit: String,
}

impl Hub {
    /// Creates a client of the hub in `config`.
    ///
    /// # Errors
    /// [`HubError::Setup`].
    pub fn new(config: Config) -> Result<Self, HubError> {
        Self::with_sleeper(config, Sleeper::default())
    }

    /// Creates a client that waits between attempts with `sleeper`.
    ///
    /// # Errors
    /// [`HubError::Setup`].
    pub fn with_sleeper(config: Config, sleeper: Sleeper) -> Result<Self, HubError> {
        Ok(Self { client: HubClient::new(config.clone())?, config, sleeper })
    }

    /// Returns the checkpoint of `model` and downloads the files that the cache lacks.
    ///
    /// - The hub resolves the revision to a commit. If it is unreachable, the last known commit is
    ///   served from the cache.
    /// - A commit hash with a complete snapshot needs no request.
    /// - The future may be dropped at any time. The next call resumes the download.
    ///
    /// # Errors
    /// [`HubError`].
    pub async fn fetch(&self, model: &RepositoryName, progress: &Progress) -> Result<Snapshot, HubError> {
        let repository = CachedRepository::new(&self.config.cache, model);
        let cached_commit = repository.commit(model)?;
        if model.pinned_commit().is_some()
            && let Some(commit) = cached_commit.as_deref().filter(|commit| is_complete(&repository, commit))
        {
            return Ok(snapshot(&repository, commit));
        }
        let cached = cached_commit.as_deref().ok_or("snapshot".to_owned());
        let cached = cached.and_then(|commit| check_loadable(&repository, commit).map(|()| commit));
        if self.config.offline {
            return cached.map(|commit| snapshot(&repository, commit)).map_err(|missing| {
                let folder = repository.folder().to_owned();
                HubError::Offline { model: model.to_string(), folder, missing }
            });
        }
        let backoff = if cached.is_ok() { Backoff::single_attempt() } else { Backoff::new() };
        let listing = match self.retry(backoff, || Listing::request(model, &self.client)).await {
            Ok(listing) => listing,
            Err(error) if error.is_outage() => match cached {
                Ok(commit) => {
                    tracing::warn!(%error, commit, "hub unreachable, using the cached snapshot");
                    return Ok(snapshot(&repository, commit));
                }
                Err(_) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        if !is_complete(&repository, &listing.commit) {
            let transfer = Transfer {
                client: &self.client,
                config: &self.config,
                sleeper: &self.sleeper,
                progress,
                repository: &repository,
                model,
                commit: &listing.commit,
            };
            self.download(&listing, &transfer).await?;
        }
        // The commit is recorded last, so that its snapshot is always complete.
        repository.record_commit(model, &listing.commit)?;
        Ok(snapshot(&repository, &listing.commit))
    }

    async fn download(&self, listing: &Listing, transfer: &Transfer<'_>) -> Result<(), HubError> {
        let has = |file: &str| listing.files.iter().any(|listed| listed == file);
        let missing = |missing: &str| HubError::MissingFiles {
            model: transfer.model.to_string(),
            missing: missing.to_owned(),
            found: checkpoint_files::summarize(&listing.files),
        };
        let selected = checkpoint_files::select(has).map_err(missing)?;
        let mut names: Vec<String> = selected.iter().copied().map(str::to_owned).collect();
        if let Some(index) = checkpoint_files::weight_index(&selected) {
            let shards = self.shard_names(index, transfer).await?;
            if let Some(shard) = shards.iter().find(|shard| !has(shard)) {
                return Err(missing(shard));
            }
            names.extend(shards);
        }
        names.retain(|name| !transfer.repository.has_file(transfer.commit, name));
        let files = stream::iter(names)
            .map(|name| async move { self.describe(&name, transfer).await })
            .buffer_unordered(self.config.parallel_downloads)
            .try_collect::<Vec<_>>()
            .await?;
        self.check_disk_space(&files, transfer.repository)?;
        let total = files.iter().map(|file| file.size).sum();
        transfer.progress.start(&transfer.model.to_string(), total);
        stream::iter(files)
            .map(|file| async move { transfer.run(&file).await })
            .buffer_unordered(self.config.parallel_downloads)
            .try_collect::<()>()
            .await?;
        for name in checkpoint_files::non_weight_files().filter(|name| !has(name)) {
            transfer.repository.record_missing(transfer.commit, name)?;
        }
        Ok(())
    }

    /// Downloads the `index` of the weights and returns the names of its shards.
    async fn shard_names(&self, index: &str, transfer: &Transfer<'_>) -> Result<Vec<String>, HubError> {
        if !transfer.repository.has_file(transfer.commit, index) {
            let file = self.describe(index, transfer).await?;
            self.check_disk_space(std::slice::from_ref(&file), transfer.repository)?;
            transfer.run(&file).await?;
        }
        read_shard_names(transfer.repository, transfer.commit, index).map_err(|reason| HubError::Protocol {
            host: self.client.endpoint().to_owned(),
            resource: index.to_owned(),
            reason,
        })
    }

    async fn describe(&self, name: &str, transfer: &Transfer<'_>) -> Result<RemoteFile, HubError> {
        let request = || listing::request_file(transfer.model, transfer.commit, name, &self.client);
        self.retry(Backoff::new(), request).await
    }

    /// Checks that the disk has enough free space for the missing bytes of `files`.
    fn check_disk_space(&self, files: &[RemoteFile], repository: &CachedRepository) -> Result<(), HubError> {
        create_folder(&self.config.cache)?;
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let missing = |file: &RemoteFile| {
            let present = length(repository.blob(&file.tag)).max(length(repository.partial(&file.tag)));
            file.size.saturating_sub(present)
        };
        let needed = files.iter().map(missing).fold(0, u64::saturating_add);
        let free = free_bytes(&self.config.cache)?;
        if needed > free {
            return Err(HubError::InsufficientSpace { folder: self.config.cache.clone(), free, needed });
        }
        Ok(())
    }

    async fn retry<T, F: Future<Output = Result<T, RequestFailure>>>(
        &self,
        mut backoff: Backoff,
        request: impl Fn() -> F,
    ) -> Result<T, HubError> {
        loop {
            match request().await {
                Ok(response) => return Ok(response),
                Err(failure) => backoff.wait_after(failure, &self.sleeper).await?,
            }
        }
    }
}

fn snapshot(repository: &CachedRepository, commit: &str) -> Snapshot {
    Snapshot { folder: repository.snapshot(commit), commit: commit.to_owned() }
}

/// Size of the largest index of shards, in bytes.
const MAX_INDEX_BYTES: u64 = 4 << 20;

fn read_shard_names(repository: &CachedRepository, commit: &str, index: &str) -> Result<Vec<String>, String> {
    let path = repository.snapshot(commit).join(index);
    let content = regular_file::read(&path, MAX_INDEX_BYTES).map_err(|error| error.to_string())?;
    checkpoint_files::shard_names(&content)
}

/// Checks that the snapshot contains all files that loading the checkpoint needs.
///
/// # Errors
/// The missing file.
fn check_loadable(repository: &CachedRepository, commit: &str) -> Result<(), String> {
    let selected = checkpoint_files::select(|file| repository.has_file(commit, file))?;
    let Some(index) = checkpoint_files::weight_index(&selected) else { return Ok(()) };
    match read_shard_names(repository, commit, index)?
        .into_iter()
        .find(|shard| !repository.has_file(commit, shard))
    {
        Some(shard) => Err(shard),
        None => Ok(()),
    }
}

/// Whether the snapshot contains all files of the checkpoint that the hub has.
///
/// A loadable snapshot of an interrupted download may lack optional files. It is not complete.
fn is_complete(repository: &CachedRepository, commit: &str) -> bool {
    let is_known = |file| repository.has_file(commit, file) || repository.is_known_missing(commit, file);
    check_loadable(repository, commit).is_ok() && checkpoint_files::non_weight_files().all(is_known)
}
