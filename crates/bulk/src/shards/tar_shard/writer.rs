//! Writes tar files: the members of the input, and a result after each sample.

use std::{
    io::{self, BufWriter, Read, Write},
    ops::ControlFlow,
};

use serde_json::Value;
use tar::{Builder, Header};

use crate::{
    shards::{
        exchange::{BUFFER_BYTES, ShardEnd},
        stored_results::{SampleOutcome, ShardResults},
        tar_shard::walk::{Member, MemberName, Visitor, broken, check_complete, walk},
        write_errors::WriteErrors,
    },
    storage::Location,
};

/// Writes the members of `input` into `file`, and after each sample its result as `NAME.json`.
///
/// # Errors
/// The output cannot be written.
pub(in crate::shards) fn write_samples(
    input: &Location,
    file: impl Write,
    name: &str,
    results: ShardResults<'_, Vec<u8>>,
) -> io::Result<ShardEnd> {
    let buffer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut writer = SampleWriter {
        extension: format!("{name}.json"),
        results,
        archive: Builder::new(WriteErrors::new(buffer)),
        template: Header::new_gnu(),
        is_stopped: false,
    };
    let mut walked = walk(input, &mut writer);
    let SampleWriter { mut archive, is_stopped, mut results, .. } = writer;
    if walked.is_ok() && !is_stopped {
        walked = results.end();
    }
    match walked {
        Err(error) if archive.get_ref().has_failed() => Err(error),
        Err(error) => Ok(ShardEnd::Unreadable(error)),
        Ok(()) if is_stopped => Ok(ShardEnd::Stopped),
        Ok(()) => {
            archive.finish()?;
            archive.get_mut().flush()?;
            Ok(ShardEnd::Complete)
        }
    }
}

struct SampleWriter<'a, W: Write> {
    extension: String,
    results: ShardResults<'a, Vec<u8>>,
    archive: Builder<WriteErrors<W>>,
    /// The header of the last member. A result has its owner and its time, so that the output does
    /// not depend on when it is written.
    template: Header,
    is_stopped: bool,
}

impl<W: Write> Visitor for SampleWriter<'_, W> {
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
            Some(name) if !self.archive.get_ref().has_failed() => {
                broken(&format!("in sample {}", name.key), &error)
            }
            _ => error,
        })
    }

    fn end_of_sample(&mut self, key: &str) -> io::Result<ControlFlow<()>> {
        let content = match self.results.next(key)? {
            Some(SampleOutcome::Earlier(content)) => content,
            Some(SampleOutcome::New(fields)) => Value::Object(fields).to_string().into_bytes(),
            None => {
                self.is_stopped = true;
                return Ok(ControlFlow::Break(()));
            }
        };
        let mut header = self.template.clone();
        header.set_size(content.len() as u64);
        self.archive.append_data(&mut header, format!("{key}.{}", self.extension), content.as_slice())?;
        Ok(ControlFlow::Continue(()))
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
