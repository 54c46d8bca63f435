//! Reads objects by ranges, or as one stream from servers that have none.

use std::{
    io::{self, Read},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, Result};

use crate::storage::{
    location::ObjectUrl,
    object::{
        request::{MAX_REQUEST_BYTES, answer},
        stores::StoredObject,
        wait::Pending,
    },
};

/// Size of a range of a stream, in bytes. The next one arrives while one is read.
const STREAM_BYTES: u64 = 4 << 20;

/// Least size of a range at any place, in bytes. Small columns need few requests then.
const MIN_RANGE_BYTES: u64 = 256 << 10;

/// An object that is read at any place. Clones share the last range.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    object: StoredObject,
    /// What the store said of the object when it was found.
    meta: ObjectMeta,
    last: Arc<Mutex<LoadedRange>>,
}

/// The bytes of an object from some place on.
#[derive(Clone, Debug, Default)]
struct LoadedRange {
    start: u64,
    bytes: Bytes,
}

impl LoadedRange {
    /// Returns the bytes from `start` on, if there are any.
    fn after(&self, start: u64) -> Option<Bytes> {
        let offset = usize::try_from(start.checked_sub(self.start)?).ok()?;
        (offset < self.bytes.len()).then(|| self.bytes.slice(offset..))
    }
}

impl Object {
    /// Finds an object.
    ///
    /// # Errors
    /// There is none, or no answer.
    pub(crate) fn open(url: &ObjectUrl) -> io::Result<Self> {
        let object = StoredObject::find(url)?;
        let StoredObject { store, path, url } = object.clone();
        let meta = Pending::start(async move { answer(&url, store.head(&path)).await }).wait()?;
        Ok(Self { object, meta, last: Arc::default() })
    }

    /// Returns the length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.meta.size
    }

    /// Returns the tag that says that the object is still the same. A weak one cannot be a
    /// condition of a request.
    fn strong_tag(&self) -> Option<String> {
        self.meta.e_tag.clone().filter(|tag| !tag.starts_with("W/"))
    }

    /// Requests a range. A body of another length is an error.
    fn request(&self, range: Range<u64>) -> Pending<Bytes> {
        let StoredObject { store, path, url } = self.object.clone();
        let expected = range.end.saturating_sub(range.start);
        let (if_match, meta) = (self.strong_tag(), self.meta.clone());
        let has_tag = if_match.is_some();
        let options = GetOptions { range: Some(GetRange::Bounded(range)), if_match, ..GetOptions::default() };
        Pending::start(async move {
            let bytes = async {
                let found = store.get_opts(&path, options).await?;
                if !has_tag {
                    check_unchanged(&meta, &found.meta)?;
                }
                let mut body = found.into_stream();
                // The length is the server's word. Memory is allocated for what arrives only.
                let mut bytes = Vec::new();
                while bytes.len() as u64 <= expected
                    && let Some(part) = body.next().await
                {
                    bytes.extend_from_slice(&part?);
                }
                Ok(Bytes::from(bytes))
            };
            let bytes = answer(&url, bytes).await?;
            if bytes.len() as u64 == expected {
                return Ok(bytes);
            }
            let message = format!("the server has not sent {expected} bytes, as it announced");
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
        })
    }

    /// Returns bytes from `start` on: those of the last range, or of a new one of `length` bytes.
    fn after(&self, start: u64, length: u64) -> io::Result<Bytes> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = last.after(start) {
            return Ok(bytes);
        }
        let end = start.saturating_add(length).min(self.meta.size);
        if end <= start {
            return Ok(Bytes::new());
        }
        let bytes = self.request(start..end).wait()?;
        *last = LoadedRange { start, bytes: bytes.clone() };
        Ok(bytes)
    }

    /// Returns the bytes of a range.
    ///
    /// # Errors
    /// The object ends before.
    #[cfg(feature = "parquet")]
    pub(crate) fn bytes(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.meta.size);
        let end = end.ok_or_else(|| too_short(start.saturating_add(length as u64), self.meta.size))?;
        let bytes = self.after(start, (length as u64).max(MIN_RANGE_BYTES))?;
        if bytes.len() >= length {
            return Ok(bytes.slice(..length));
        }
        // The last range has the beginning only.
        let rest = self.request(start + bytes.len() as u64..end).wait()?;
        let all = Bytes::from([bytes, rest].concat());
        (all.len() == length).then_some(all).ok_or_else(|| too_short(end, self.meta.size))
    }

    /// Returns a reader from `start` on, whose ranges become larger.
    #[cfg(feature = "parquet")]
    pub(crate) fn read_from(&self, start: u64) -> impl Read + Send + use<> {
        RangeReader { object: self.clone(), position: start, range_bytes: MIN_RANGE_BYTES }
    }

    /// Returns a reader of the whole object.
    pub(crate) fn into_stream(self) -> impl Read + Send + use<> {
        ObjectStream { object: self, position: 0, bytes: Bytes::new(), next: None, body: None }
    }
}

/// Returns an error if the size or the time of the last change differ. Servers can leave out the
/// time.
fn check_unchanged(before: &ObjectMeta, now: &ObjectMeta) -> Result<()> {
    let (earlier, later) = (before.last_modified, now.last_modified);
    let is_same_time = earlier == later || earlier.timestamp() == 0 || later.timestamp() == 0;
    if now.size == before.size && is_same_time {
        return Ok(());
    }
    let source = "the size or the time of the last change differs".into();
    Err(Error::Precondition { path: before.location.to_string(), source })
}

fn too_short(expected: u64, actual: u64) -> io::Error {
    let message = format!("the object has {actual} bytes: expected at least {expected}");
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}

/// Reads from some place on.
#[cfg(feature = "parquet")]
struct RangeReader {
    object: Object,
    position: u64,
    range_bytes: u64,
}

#[cfg(feature = "parquet")]
impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.object.after(self.position, self.range_bytes)?;
        let count = copy(&bytes, buffer);
        self.position += count as u64;
        if count == bytes.len() {
            self.range_bytes = (self.range_bytes * 4).min(STREAM_BYTES);
        }
        Ok(count)
    }
}

/// Reads a whole object, one range ahead.
struct ObjectStream {
    object: Object,
    /// The end of the range that was requested last.
    position: u64,
    bytes: Bytes,
    next: Option<Pending<Bytes>>,
    /// The body of a server without ranges.
    body: Option<BoxStream<'static, Result<Bytes>>>,
}

impl ObjectStream {
    fn request(&mut self) -> Option<Pending<Bytes>> {
        let end = self.position.saturating_add(STREAM_BYTES).min(self.object.meta.size);
        let range = std::mem::replace(&mut self.position, end)..end;
        (!range.is_empty()).then(|| self.object.request(range))
    }

    /// Returns the next bytes. None are the end.
    fn next_bytes(&mut self) -> io::Result<Bytes> {
        if self.body.is_some() {
            return self.next_of_body();
        }
        let is_first = self.position == 0;
        let Some(current) = self.next.take().or_else(|| self.request()) else { return Ok(Bytes::new()) };
        if is_first {
            // The first answer says whether the server has ranges.
            match current.wait() {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.open_body()?;
                    return self.next_of_body();
                }
                bytes => {
                    self.next = self.request();
                    return bytes;
                }
            }
        }
        self.next = self.request();
        current.wait()
    }

    fn open_body(&mut self) -> io::Result<()> {
        let StoredObject { store, path, url } = self.object.object.clone();
        let meta = self.object.meta.clone();
        let body = Pending::start(async move {
            let found = async {
                let found = store.get(&path).await?;
                check_unchanged(&meta, &found.meta).map(|()| found)
            };
            answer(&url, found).await
        })
        .wait()?;
        self.body = Some(body.into_stream());
        Ok(())
    }

    /// Collects a part of the body. A server that sends too few bytes in the time of a request is
    /// an error.
    fn next_of_body(&mut self) -> io::Result<Bytes> {
        let Some(mut body) = self.body.take() else { return Ok(Bytes::new()) };
        let url = self.object.object.url.clone();
        let (bytes, body) = Pending::start(async move {
            let collected = async {
                let mut collected = Vec::new();
                while collected.len() < MIN_RANGE_BYTES as usize {
                    let Some(bytes) = body.next().await.transpose()? else { break };
                    collected.extend_from_slice(&bytes);
                }
                Ok(collected)
            };
            let collected = answer(&url, collected).await?;
            Ok((Bytes::from(collected), body))
        })
        .wait()?;
        self.body = Some(body);
        Ok(bytes)
    }
}

impl Read for ObjectStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.bytes = self.next_bytes()?;
        }
        let count = copy(&self.bytes, buffer);
        self.bytes = self.bytes.split_off(count);
        Ok(count)
    }
}

fn copy(bytes: &Bytes, buffer: &mut [u8]) -> usize {
    let count = bytes.len().min(buffer.len());
    if let (Some(target), Some(source)) = (buffer.get_mut(..count), bytes.get(..count)) {
        target.copy_from_slice(source);
    }
    count
}

const _: () = assert!(STREAM_BYTES <= MAX_REQUEST_BYTES as u64, "a range is one request");
