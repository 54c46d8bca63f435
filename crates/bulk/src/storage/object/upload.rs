//! Writes objects: in one request, or in parts that become the object at the end.

use std::{
    io::{self, Write},
    sync::Arc,
};

use object_store::{MultipartUpload, ObjectStoreExt as _};
use tokio::sync::Mutex;

use crate::storage::{
    location::ObjectUrl,
    object::{
        request::{MAX_REQUEST_BYTES, answer},
        stores::StoredObject,
        wait::Pending,
    },
};

/// Size of a part, in bytes. All but the last are equal, which some stores demand. With 10,000
/// parts, an object has at most 78 GiB.
const PART_BYTES: usize = MAX_REQUEST_BYTES;

type Parts = Arc<Mutex<Box<dyn MultipartUpload>>>;

/// An object that is written. The store has nothing under its name until it is complete.
#[derive(Debug)]
pub(crate) struct Upload {
    object: StoredObject,
    /// The part that is being filled.
    part: Vec<u8>,
    /// The parts in the store, once there are any.
    parts: Option<Parts>,
    /// The part that is being sent.
    sending: Option<Pending<()>>,
}

impl Upload {
    /// Begins an object. No request is sent.
    ///
    /// # Errors
    /// See [`StoredObject::find`].
    pub(crate) fn new(url: &ObjectUrl) -> io::Result<Self> {
        Ok(Self { object: StoredObject::find(url)?, part: Vec::new(), parts: None, sending: None })
    }

    /// Completes the object.
    ///
    /// # Errors
    /// The store does not take it. It keeps no parts.
    pub(crate) fn complete(mut self) -> io::Result<()> {
        let StoredObject { store, path, url } = self.object.clone();
        if self.parts.is_none() {
            let content = std::mem::take(&mut self.part);
            return Pending::start_write(async move { answer(&url, store.put(&path, content.into())).await })
                .wait()
                .map(drop);
        }
        if !self.part.is_empty() {
            self.send()?;
        }
        self.sent()?;
        if let Some(parts) = &self.parts {
            let parts = Arc::clone(parts);
            Pending::start_write(async move { answer(&url, parts.lock().await.complete()).await }).wait()?;
        }
        self.parts = None;
        Ok(())
    }

    /// Removes the parts from the store.
    ///
    /// # Errors
    /// The store does not answer, and can have parts.
    pub(crate) fn abort(mut self) -> io::Result<()> {
        self.remove_parts()
    }

    fn remove_parts(&mut self) -> io::Result<()> {
        // A part that arrives later would stay.
        let _ = self.sent();
        let Some(parts) = self.parts.take() else { return Ok(()) };
        let url = self.object.url.clone();
        Pending::start_write(async move { answer(&url, parts.lock().await.abort()).await }).wait()
    }

    /// Waits until the last part is in the store.
    fn sent(&mut self) -> io::Result<()> {
        self.sending.take().map_or(Ok(()), Pending::wait)
    }

    /// Begins to send the part.
    fn send(&mut self) -> io::Result<()> {
        self.sent()?;
        let StoredObject { store, path, url } = self.object.clone();
        let parts = match &self.parts {
            Some(parts) => Arc::clone(parts),
            None => {
                let begun = url.clone();
                let begin = async move { answer(&begun, store.put_multipart(&path)).await };
                let parts = Arc::new(Mutex::new(Pending::start_write(begin).wait()?));
                self.parts = Some(Arc::clone(&parts));
                parts
            }
        };
        let content = std::mem::replace(&mut self.part, Vec::with_capacity(PART_BYTES));
        self.sending = Some(Pending::start_write(async move {
            let sent = parts.lock().await.put_part(content.into());
            answer(&url, sent).await
        }));
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() == PART_BYTES {
            self.send()?;
        }
        let count = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After an error, which is more important than one of the removal.
        let _ = self.remove_parts();
    }
}
