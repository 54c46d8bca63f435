//! A model's name to a folder that holds its checkpoint.

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

/// A hub and its cache.
#[derive(Debug)]
pub struct Hub {
    client: HubClient,
    config: Config,
    sleeper: Sleeper,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder in Hugging Face's layout.
    pub folder: PathBuf,
    /// The commit that it is of.
    pub commit: String,
}

impl Hub {
    /// The hub that `config` says.
    ///
    /// # Errors
    /// [`HubError::Setup`].
    pub fn new(config: Config) -> Result<Self, HubError> {
        Self::with_sleeper(config, Sleeper::default())
    }

    /// The same, waiting between attempts as `pause` does.
    ///
    /// # Errors
    /// [`HubError::Setup`].
    pub fn with_sleeper(config: Config, sleeper: Sleeper) -> Result<Self, HubError> {
        Ok(Self { client: HubClient::new(config.clone())?, config, sleeper })
    }

    /// The checkpoint of `model`, downloaded as far as the cache lacks it.
    ///
    /// The hub is asked which commit the revision is now; if it is out of reach, the commit that it was last is taken
    /// from the cache. A commit's hash whose snapshot is whole needs no hub. May be dropped at any time: what has come
    /// stays, and the next call goes on from there.
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
        let listing = match self.retry(backoff, || Listing::of(model, &self.client)).await {
            Ok(listing) => listing,
            Err(error) if error.is_outage() => match cached {
                Ok(commit) => {
                    tracing::warn!(%error, commit, "the hub is out of reach, taking the cached snapshot");
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
        // Last, so that whoever reads it finds all files.
        repository.record_commit(model, &listing.commit)?;
        Ok(snapshot(&repository, &listing.commit))
    }

    async fn download(&self, listing: &Listing, transfer: &Transfer<'_>) -> Result<(), HubError> {
        let has = |file: &str| listing.files.iter().any(|there| there == file);
        let missing = |missing: &str| HubError::MissingFiles {
            model: transfer.model.to_string(),
            missing: missing.to_owned(),
            found: checkpoint_files::summarize(&listing.files),
        };
        let chosen = checkpoint_files::select(has).map_err(missing)?;
        let mut names: Vec<String> = chosen.iter().copied().map(str::to_owned).collect();
        if let Some(index) = checkpoint_files::weight_index(&chosen) {
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

    /// The shards that the model's `index` names; it is downloaded ahead of all else.
    async fn shard_names(&self, index: &str, transfer: &Transfer<'_>) -> Result<Vec<String>, HubError> {
        if !transfer.repository.has_file(transfer.commit, index) {
            let file = self.describe(index, transfer).await?;
            self.check_disk_space(std::slice::from_ref(&file), transfer.repository)?;
            transfer.run(&file).await?;
        }
        read_shard_names(transfer.repository, transfer.commit, index).map_err(|reason| HubError::Protocol {
            host: self.client.endpoint().to_owned(),
            what: index.to_owned(),
            reason,
        })
    }

    async fn describe(&self, name: &str, transfer: &Transfer<'_>) -> Result<RemoteFile, HubError> {
        let ask = || listing::describe(transfer.model, transfer.commit, name, &self.client);
        self.retry(Backoff::new(), ask).await
    }

    /// Before hours of download, not after them.
    fn check_disk_space(&self, files: &[RemoteFile], repository: &CachedRepository) -> Result<(), HubError> {
        create_folder(&self.config.cache)?;
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |there| there.len());
        let missing = |file: &RemoteFile| {
            let there = length(repository.blob(&file.tag)).max(length(repository.partial(&file.tag)));
            file.size.saturating_sub(there)
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
        ask: impl Fn() -> F,
    ) -> Result<T, HubError> {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => backoff.wait_after(failure, &self.sleeper).await?,
            }
        }
    }
}

fn snapshot(repository: &CachedRepository, commit: &str) -> Snapshot {
    Snapshot { folder: repository.snapshot(commit), commit: commit.to_owned() }
}

fn read_shard_names(repository: &CachedRepository, commit: &str, index: &str) -> Result<Vec<String>, String> {
    let content = fs::read(repository.snapshot(commit).join(index)).map_err(|error| error.to_string())?;
    checkpoint_files::shard_names(&content)
}

/// Whether a checkpoint can be read from the snapshot.
///
/// # Errors
/// What is missing.
fn check_loadable(repository: &CachedRepository, commit: &str) -> Result<(), String> {
    let chosen = checkpoint_files::select(|file| repository.has_file(commit, file))?;
    let Some(index) = checkpoint_files::weight_index(&chosen) else { return Ok(()) };
    match read_shard_names(repository, commit, index)?
        .into_iter()
        .find(|shard| !repository.has_file(commit, shard))
    {
        Some(shard) => Err(shard),
        None => Ok(()),
    }
}

/// Whether the snapshot has all that the hub has of a checkpoint; a download that was cut short may lack files that a
/// checkpoint can do without, but not this one.
fn is_complete(repository: &CachedRepository, commit: &str) -> bool {
    let cached_commit = |file| repository.has_file(commit, file) || repository.is_known_missing(commit, file);
    check_loadable(repository, commit).is_ok() && checkpoint_files::non_weight_files().all(cached_commit)
}
