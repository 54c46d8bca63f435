//! Writes output shards: the content of the input shards with their results.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

#[cfg(feature = "parquet")]
use crate::shards::parquet_shard;
use crate::shards::{
    catch_panic::catch_panic,
    columns::ResultColumn,
    exchange::{Results, ShardEnd},
    job::Job,
    shard_format::ShardFormat,
    tar_shard,
};

/// How results are written.
#[derive(Debug)]
pub(super) struct ResultFormat {
    /// The name of results: `x.NAME.json` in tar files, and a column of Parquet files.
    pub(super) name: String,
    /// The fields of the column.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "only Parquet files have columns"))]
    pub(super) columns: Vec<ResultColumn>,
}

/// Writes the output of one shard.
///
/// # Errors
/// The output cannot be written.
pub(super) fn write_shard(
    shard: usize,
    job: &Job,
    format: &ResultFormat,
    results: &mut Results,
) -> io::Result<ShardEnd> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", job.output.display()));
    let file = open_partial(&job.partial).map_err(named)?;
    let end = catch_panic(|| write_partial(shard, job, &file, format, results))
        .unwrap_or_else(|error| Ok(ShardEnd::Unreadable(error)));
    let end = end.and_then(|end| {
        match end {
            ShardEnd::Complete => {
                file.sync_all()?;
                fs::rename(&job.partial, &job.output)?;
            }
            ShardEnd::Unreadable(_) | ShardEnd::Stopped => fs::remove_file(&job.partial)?,
        }
        Ok(end)
    });
    end.map_err(|error| {
        // The error is more important than a file that stays. The next run replaces it.
        let _ = fs::remove_file(&job.partial);
        named(error)
    })
}

fn write_partial(
    shard: usize,
    job: &Job,
    file: &File,
    format: &ResultFormat,
    results: &mut Results,
) -> io::Result<ShardEnd> {
    match job.format {
        ShardFormat::Tar => tar_shard::write_samples(shard, &job.input, file, &format.name, results),
        #[cfg(feature = "parquet")]
        ShardFormat::Parquet => {
            parquet_shard::write_rows(shard, &job.input, file, (&format.name, &format.columns), results)
        }
    }
}

/// Opens an empty file that no other run writes.
fn open_partial(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(path)?;
    let file = lock_partial(path, file)?;
    if file.metadata()?.nlink() > 1 {
        // A merge that was killed can leave a second name of a complete shard, which must keep its
        // content.
        fs::remove_file(path)?;
        return lock_partial(path, File::options().create_new(true).write(true).open(path)?);
    }
    file.set_len(0)?;
    Ok(file)
}

/// Returns the file at `path`, locked.
///
/// # Errors
/// Another run writes it.
fn lock_partial(path: &Path, file: File) -> io::Result<File> {
    // A file system without locks cannot protect a shard from another run.
    let is_locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    // Between opening and locking, another run can have completed the file and given it its name.
    let is_partial = fs::metadata(path).is_ok_and(|named| {
        file.metadata().is_ok_and(|opened| (opened.dev(), opened.ino()) == (named.dev(), named.ino()))
    });
    if !is_locked || !is_partial {
        return Err(io::Error::other("another run writes this shard: use --shard to divide the input"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_another_run_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".a.tar.partial");
        let first = open_partial(&path).unwrap();
        assert!(open_partial(&path).unwrap_err().to_string().contains("another run writes this shard"));
        drop(first);
        fs::write(&path, b"of a killed run").unwrap();
        assert_eq!(open_partial(&path).unwrap().metadata().unwrap().len(), 0);
    }

    #[test]
    fn link_to_a_complete_shard_is_not_truncated() {
        let folder = tempfile::tempdir().unwrap();
        let (shard, path) = (folder.path().join("a.tar"), folder.path().join(".a.tar.partial"));
        fs::write(&shard, b"complete").unwrap();
        fs::hard_link(&shard, &path).unwrap();
        let mut file = open_partial(&path).unwrap();
        io::Write::write_all(&mut file, b"new").unwrap();
        assert!(open_partial(&path).unwrap_err().to_string().contains("another run writes this shard"));
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&shard).unwrap()),
            (b"new".into(), b"complete".into())
        );
    }
}
