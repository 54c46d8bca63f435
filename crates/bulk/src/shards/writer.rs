//! Writes output shards: the members of the input shards, and a result after each sample.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Read, Write},
    ops::ControlFlow,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use serde_json::Value;
use tar::{Builder, Header};
use tokio::sync::mpsc;

use crate::{
    record::Fields,
    shards::{
        job::Job,
        reader::SampleId,
        walk::{BUFFER_BYTES, Member, MemberName, Visitor, broken, check_complete, walk},
    },
};

/// The result of a sample.
pub(super) type SampleResult = (SampleId, Fields);

/// How a shard ended.
#[derive(Debug)]
pub(super) enum ShardEnd {
    /// The output shard is complete.
    Complete,
    /// The input shard cannot be read. It has no output.
    Unreadable(io::Error),
    /// The run was stopped. The shard has no output.
    Stopped,
}

/// The results of the samples, in their order.
#[derive(Debug)]
pub(super) struct Results {
    receiver: mpsc::Receiver<SampleResult>,
    next: Option<SampleResult>,
}

impl Results {
    pub(super) fn new(receiver: mpsc::Receiver<SampleResult>) -> Self {
        Self { receiver, next: None }
    }

    /// Waits for the result of a sample. Returns `None` if the run was stopped.
    ///
    /// # Errors
    /// The reader found another sample here, so the shard has changed.
    fn take(&mut self, shard: usize, key: &str) -> io::Result<Option<Fields>> {
        loop {
            let Some((id, fields)) = self.next.take().or_else(|| self.receiver.blocking_recv()) else {
                return Ok(None);
            };
            if id.shard == shard && id.key == key {
                return Ok(Some(fields));
            }
            // Samples that only the reader found, in an earlier shard.
            if id.shard < shard {
                continue;
            }
            self.next = Some((id, fields));
            return Err(io::Error::other("the file has changed while it was read"));
        }
    }
}

/// Writes the output of one shard. `extension` is that of the members with results.
///
/// # Errors
/// The output cannot be written.
pub(super) fn write_shard(
    shard: usize,
    job: &Job,
    extension: &str,
    results: &mut Results,
) -> io::Result<ShardEnd> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", job.output.display()));
    let file = open_partial(&job.partial).map_err(named)?;
    let end = write_partial(shard, job, &file, extension, results);
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

/// Opens an empty file that no other run writes.
fn open_partial(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(path)?;
    // A file system without locks cannot protect a shard from another run.
    let is_locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    // Between opening and locking, another run can have completed the file and given it its name.
    let is_partial = fs::metadata(path).is_ok_and(|named| {
        file.metadata().is_ok_and(|opened| (opened.dev(), opened.ino()) == (named.dev(), named.ino()))
    });
    if !is_locked || !is_partial {
        return Err(io::Error::other("another run writes this shard: use --shard to divide the input"));
    }
    file.set_len(0)?;
    Ok(file)
}

fn write_partial(
    shard: usize,
    job: &Job,
    file: &File,
    extension: &str,
    results: &mut Results,
) -> io::Result<ShardEnd> {
    let buffer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let archive = Builder::new(WriteErrors { inner: buffer, has_failed: false });
    let mut writer =
        ShardWriter { shard, extension, results, archive, template: Header::new_gnu(), is_stopped: false };
    let walked = walk(&job.input, &mut writer);
    let ShardWriter { mut archive, is_stopped, .. } = writer;
    match walked {
        Err(error) if archive.get_ref().has_failed => Err(error),
        Err(error) => Ok(ShardEnd::Unreadable(error)),
        Ok(()) if is_stopped => Ok(ShardEnd::Stopped),
        Ok(()) => {
            archive.finish()?;
            archive.get_mut().flush()?;
            Ok(ShardEnd::Complete)
        }
    }
}

struct ShardWriter<'a, W: Write> {
    shard: usize,
    extension: &'a str,
    results: &'a mut Results,
    archive: Builder<WriteErrors<W>>,
    /// The header of the last member. A result has its owner and its time, so that the output does
    /// not depend on when it is written.
    template: Header,
    is_stopped: bool,
}

impl<W: Write> Visitor for ShardWriter<'_, W> {
    fn member(&mut self, name: Option<&MemberName>, member: &mut Member<'_>) -> io::Result<()> {
        // The result of an earlier run. This one replaces it.
        if name.is_some_and(|name| name.extension == self.extension) {
            return Ok(());
        }
        let path = member.path()?.into_owned();
        let mut header = member.header().clone();
        let bytes = member.size();
        header.set_size(bytes);
        // A new path does not replace the part of the old one that is in the prefix.
        if let Some(header) = header.as_ustar_mut() {
            header.prefix.fill(0);
        }
        if let Some(target) = member.link_name()? {
            return self.archive.append_link(&mut header, path, target);
        }
        if name.is_some() {
            self.template = header.clone();
        }
        let mut content = CountBytes { inner: member, bytes: 0 };
        let copied = self.archive.append_data(&mut header, path, &mut content);
        let copied = copied.and_then(|()| check_complete(bytes, content.bytes));
        copied.map_err(|error| match name {
            Some(name) if !self.archive.get_ref().has_failed => {
                broken(&format!("in sample {}", name.key), &error)
            }
            _ => error,
        })
    }

    fn end_of_sample(&mut self, key: &str) -> io::Result<ControlFlow<()>> {
        let Some(fields) = self.results.take(self.shard, key)? else {
            self.is_stopped = true;
            return Ok(ControlFlow::Break(()));
        };
        let content = Value::Object(fields).to_string().into_bytes();
        let mut header = self.template.clone();
        header.set_size(content.len() as u64);
        self.archive.append_data(&mut header, format!("{key}.{}", self.extension), content.as_slice())?;
        Ok(ControlFlow::Continue(()))
    }
}

/// Remembers whether writing has failed. Other errors of copying come from reading.
struct WriteErrors<W> {
    inner: W,
    has_failed: bool,
}

impl<W: Write> Write for WriteErrors<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner
            .write(bytes)
            .inspect_err(|error| self.has_failed |= error.kind() != io::ErrorKind::Interrupted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Counts the bytes that are read.
struct CountBytes<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for CountBytes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
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
}
