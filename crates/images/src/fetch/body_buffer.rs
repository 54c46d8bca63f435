//! The bytes of a body while they arrive.

use bytes::Bytes;

use crate::fetch::{account::BodyMemory, error::FetchError};

/// The first reservation of a body, in bytes. Each following one doubles the memory.
const FIRST_BYTES: usize = 64 << 10;

/// A buffer whose memory is reserved when bytes arrive.
#[derive(Debug)]
pub(super) struct BodyBuffer {
    bytes: Vec<u8>,
    memory: Box<dyn BodyMemory>,
    /// The largest length of the body: its declared length, or else the limit.
    expected: usize,
}

impl BodyBuffer {
    pub(super) fn new(memory: Box<dyn BodyMemory>, expected: usize) -> Self {
        Self { bytes: Vec::new(), memory, expected }
    }

    /// Appends `part`.
    ///
    /// # Errors
    /// [`FetchError::Busy`] if there is no memory for it. [`FetchError::TooManyBytes`] if the body
    /// becomes longer than `limit`.
    pub(super) fn push(&mut self, part: &[u8], limit: usize) -> Result<(), FetchError> {
        let length = self.bytes.len().saturating_add(part.len());
        if length > limit {
            return Err(FetchError::TooManyBytes { limit });
        }
        let capacity = self.bytes.capacity();
        if length > capacity {
            let doubled = capacity.saturating_mul(2).max(FIRST_BYTES).min(self.expected).max(length);
            self.memory.grow(doubled - capacity).map_err(|_| FetchError::Busy)?;
            self.bytes.reserve_exact(doubled - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// Returns the body with its memory.
    pub(super) fn complete(mut self) -> (Bytes, Box<dyn BodyMemory>) {
        self.bytes.shrink_to_fit();
        self.memory.complete(self.bytes.len());
        (self.bytes.into(), self.memory)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::fetch::account::MemoryExhausted;

    /// Records each reservation, and has room for `left` bytes.
    #[derive(Debug)]
    struct Recorded {
        sizes: Arc<Mutex<Vec<usize>>>,
        left: usize,
    }

    impl BodyMemory for Recorded {
        fn grow(&mut self, more: usize) -> Result<(), MemoryExhausted> {
            self.left = self.left.checked_sub(more).ok_or(MemoryExhausted)?;
            self.sizes.lock().unwrap().push(more);
            Ok(())
        }

        fn complete(&mut self, bytes: usize) {
            self.sizes.lock().unwrap().push(bytes);
        }
    }

    fn buffer(left: usize, expected: usize) -> (BodyBuffer, Arc<Mutex<Vec<usize>>>) {
        let sizes = Arc::<Mutex<Vec<usize>>>::default();
        let memory = Recorded { sizes: Arc::clone(&sizes), left };
        (BodyBuffer::new(Box::new(memory), expected), sizes)
    }

    #[test]
    fn memory_grows_with_the_bytes_that_arrive() {
        let (mut buffer, sizes) = buffer(1 << 20, 200_000);
        assert!(sizes.lock().unwrap().is_empty());
        for _ in 0..20 {
            buffer.push(&[7; 10_000], 200_000).unwrap();
        }
        let (body, _memory) = buffer.complete();
        assert_eq!(body, [7; 200_000].as_slice());
        assert_eq!(*sizes.lock().unwrap(), [65_536, 65_536, 68_928, 200_000]);
    }

    #[test]
    fn short_body_reserves_its_declared_length() {
        let (mut buffer, sizes) = buffer(100, 100);
        buffer.push(&[7; 60], 1000).unwrap();
        assert_eq!(buffer.complete().0.len(), 60);
        assert_eq!(*sizes.lock().unwrap(), [100, 60]);
    }

    #[test]
    fn body_beyond_memory_or_limit_is_an_error() {
        let (mut buffer, _) = buffer(100, 1000);
        assert_eq!(buffer.push(&[7; 60], 1000), Err(FetchError::Busy));
        assert_eq!(buffer.push(&[7; 60], 50), Err(FetchError::TooManyBytes { limit: 50 }));
    }
}
