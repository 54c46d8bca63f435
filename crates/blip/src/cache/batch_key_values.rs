//! The cross-attention keys and values that one batch reads from the shared cache or adds to it.

use std::sync::Arc;

use tch::TchError;

use crate::{
    batch::{layout::KvSource, rows::ImageDigest},
    cache::{
        float_buffer::FloatBuffer,
        shared::{Inner, SharedImageCache},
    },
};

/// Cross-attention keys and values of one batch: entries that it reads and entries that it adds.
#[derive(Debug)]
pub(crate) struct BatchKeyValues {
    cache: Arc<Inner>,
    images: Vec<KeyValueBuffer>,
    /// The images whose keys and values the batch does not read.
    missed: Vec<ImageDigest>,
}

#[derive(Debug)]
enum KeyValueBuffer {
    Read(FloatBuffer),
    /// The batch computes the values. Only this batch holds the buffer until
    /// [`BatchKeyValues::commit`].
    Write(ImageDigest, FloatBuffer),
}

impl BatchKeyValues {
    /// Creates the access of one batch to `cache`.
    pub(crate) fn new(cache: &SharedImageCache) -> Self {
        Self { cache: Arc::clone(&cache.0), images: Vec::new(), missed: Vec::new() }
    }

    /// Returns the source of the keys and values of each of the distinct images of the batch. An
    /// image comes with its number of queries.
    ///
    /// The slot of a source is an index into the images of this batch. An image never evicts
    /// another image of the same batch.
    pub(crate) fn assign_sources(&mut self, images: &[(ImageDigest, i64)]) -> Vec<KvSource> {
        let entries = &mut *self.cache.entries();
        if entries.max_key_values == 0 {
            return vec![KvSource::Compute; images.len()];
        }
        // Makes all images with an entry the most recent, so that no entry below evicts one of
        // them.
        let found: Vec<_> = images.iter().map(|(key, _)| entries.key_values.get(key).cloned()).collect();
        let mut evictable = entries.key_values.len() - found.iter().flatten().count();
        let mut assign = |(&(key, queries), found): (&(ImageDigest, i64), Option<FloatBuffer>)| {
            let slot = self.images.len() as i64;
            if let Some(numbers) = found {
                self.images.push(KeyValueBuffer::Read(numbers));
                return KvSource::Cached(slot);
            }
            self.missed.push(key);
            let is_admitted = entries.is_admitted(&self.cache, key, queries);
            match is_admitted.then(|| entries.take_buffer(&self.cache, &mut evictable)).flatten() {
                Some(numbers) => {
                    self.images.push(KeyValueBuffer::Write(key, numbers));
                    KvSource::ComputeAndStore(slot)
                }
                None => KvSource::Compute,
            }
        };
        images.iter().zip(found).map(&mut assign).collect()
    }

    /// Returns the keys and values of a layer that are cached, or that this batch has written.
    ///
    /// # Errors
    /// [`TchError::Shape`] if there is no such slot or layer.
    pub(crate) fn read(&self, layer: usize, slot: i64) -> Result<&[f32], TchError> {
        let numbers = self.images.get(slot as usize).and_then(|image| match image {
            KeyValueBuffer::Read(numbers) | KeyValueBuffer::Write(_, numbers) => {
                numbers.get(self.range(layer))
            }
        });
        numbers.ok_or_else(|| missing(layer, slot))
    }

    /// Returns the buffer for the keys and values that this batch computes for a layer.
    ///
    /// # Errors
    /// [`TchError::Shape`] if this batch does not store the slot or the layer does not exist.
    pub(crate) fn write(&mut self, layer: usize, slot: i64) -> Result<&mut [f32], TchError> {
        let range = self.range(layer);
        let numbers = match self.images.get_mut(slot as usize) {
            Some(KeyValueBuffer::Write(_, numbers)) => {
                Arc::get_mut(numbers).and_then(|numbers| numbers.get_mut(range))
            }
            _ => None,
        };
        numbers.ok_or_else(|| missing(layer, slot))
    }

    fn range(&self, layer: usize) -> std::ops::Range<usize> {
        layer * self.cache.layer_len..(layer + 1) * self.cache.layer_len
    }

    /// Makes the computed keys and values visible to all engines. The caller calls it after the
    /// last layer. A batch that fails earlier adds no entry.
    pub(crate) fn commit(&mut self) {
        let mut entries = self.cache.entries();
        for image in &mut self.images {
            let KeyValueBuffer::Write(key, numbers) = image else { continue };
            // Another batch may have evicted the features, or another engine may have stored this
            // image.
            if entries.features.contains(key) && !entries.key_values.contains(key) {
                entries.in_use -= 1;
                entries.key_values.put(*key, Arc::clone(numbers));
                *image = KeyValueBuffer::Read(Arc::clone(numbers));
            }
        }
    }
}

impl Drop for BatchKeyValues {
    fn drop(&mut self) {
        let mut entries = self.cache.entries();
        for image in self.images.drain(..) {
            if let KeyValueBuffer::Write(_, numbers) = image {
                entries.in_use -= 1;
                entries.free.push(numbers);
            }
        }
        self.missed.iter().for_each(|key| entries.forget_queries(key));
    }
}

fn missing(layer: usize, slot: i64) -> TchError {
    TchError::Shape(format!("no keys and values in slot {slot} of layer {layer}"))
}
