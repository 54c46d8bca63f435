//! One writer a blob, among all processes that share the cache, Python's included.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use crate::{error::HubError, files::disk::create_folder, sleeper::Sleeper};

/// How often a lock that is held is tried again.
const PERIOD: Duration = Duration::from_millis(100);

/// How often it is said that a lock is still waited for, in periods.
const PERIODS_BETWEEN_LOGS: u128 = 100;

/// A lock that is held until it is dropped, or until the process ends.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl FileLock {
    /// Waits for the lock in `path`, no longer than `limit`.
    pub(crate) async fn acquire(path: &Path, limit: Duration, sleeper: &Sleeper) -> Result<Self, HubError> {
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        // Counted, not measured: whoever injects pauses decides how long they are.
        for round in 0..=limit.as_millis() / PERIOD.as_millis() {
            if let Some(file) = try_lock(path).map_err(HubError::file("lock", path))? {
                return Ok(Self(file));
            }
            if round % PERIODS_BETWEEN_LOGS == 0 {
                tracing::info!(lock = %path.display(), "another process is downloading this file, waiting for it");
            }
            sleeper.sleep(PERIOD).await;
        }
        Err(HubError::Locked { path: path.to_owned(), waited: limit })
    }
}

/// The same `flock` that Python's filelock takes. It deletes its file when it lets go, so that a lock may have been got on
/// a file that is no longer there, which would keep nobody out.
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
    async fn a_lock_keeps_others_out_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/a.lock");
        let sleeper = Sleeper::yielding();
        let limit = Duration::from_secs(1);
        let held = FileLock::acquire(&path, limit, &sleeper).await.unwrap();
        let refused = FileLock::acquire(&path, limit, &sleeper).await.unwrap_err();
        assert!(matches!(refused, HubError::Locked { .. }), "{refused}");
        drop(held);
        FileLock::acquire(&path, limit, &sleeper).await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_on_a_file_that_was_deleted_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let held = try_lock(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = try_lock(&path).unwrap().unwrap();
        assert_eq!((held.metadata().unwrap().nlink(), other.metadata().unwrap().nlink()), (0, 1));
    }
}
