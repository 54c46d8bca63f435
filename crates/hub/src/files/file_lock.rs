//! Locks a blob for one writer among all processes that share the cache, including Python.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use crate::{error::HubError, files::disk::create_folder, sleeper::Sleeper};

/// Interval between attempts to lock.
const PERIOD: Duration = Duration::from_millis(100);

/// Number of attempts between two log lines.
const ATTEMPTS_PER_LOG_LINE: u128 = 100;

/// An exclusive lock. Dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl FileLock {
    /// Waits for the lock in `path`, at most for `limit`.
    pub(crate) async fn acquire(path: &Path, limit: Duration, sleeper: &Sleeper) -> Result<Self, HubError> {
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        // Attempts are counted, not timed, because the sleeper of a test may not wait.
        for attempt in 0..=limit.as_millis() / PERIOD.as_millis() {
            if let Some(file) = try_lock(path).map_err(HubError::file("lock", path))? {
                return Ok(Self(file));
            }
            if attempt % ATTEMPTS_PER_LOG_LINE == 0 {
                tracing::info!(lock = %path.display(), "waiting for a lock: another process is downloading this file");
            }
            sleeper.sleep(PERIOD).await;
        }
        Err(HubError::Locked { path: path.to_owned(), waited: limit })
    }
}

/// Tries to lock the file with `flock`, as Python's filelock does.
///
/// Python deletes the file when it releases the lock. A lock on a deleted file excludes no process,
/// so it does not count.
fn try_lock(path: &Path) -> std::io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) if file.metadata()?.nlink() > 0 => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lock_is_exclusive_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/a.lock");
        let sleeper = Sleeper::yielding();
        let limit = Duration::from_secs(1);
        let first = FileLock::acquire(&path, limit, &sleeper).await.unwrap();
        let error = FileLock::acquire(&path, limit, &sleeper).await.unwrap_err();
        assert!(matches!(error, HubError::Locked { .. }), "{error}");
        drop(first);
        FileLock::acquire(&path, limit, &sleeper).await.unwrap();
    }

    #[tokio::test]
    async fn lock_on_a_deleted_file_is_not_exclusive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let first = try_lock(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = try_lock(&path).unwrap().unwrap();
        assert_eq!((first.metadata().unwrap().nlink(), other.metadata().unwrap().nlink()), (0, 1));
    }
}
