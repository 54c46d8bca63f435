//! The image cache that all engines on the CPU share: image features, and cross-attention keys and
//! values. One engine computes an entry, all engines read it.
//!
//! An entry becomes visible when it is complete and is never changed while a batch reads it. A batch
//! holds its entries by reference count. It therefore reads without a lock, even after an eviction.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use tch::{Device, Kind};

use crate::{
    batch::rows::{ImageDigest, RowSink},
    cache::{
        float_buffer::{FloatBuffer, into_unshared},
        key_value_shape::KeyValueShape,
    },
    checkpoint::{Checkpoint, config::Architecture},
    dtype::Dtype,
    options::LoadOptions,
};

/// A memory of images for all models of one checkpoint that are loaded in the same way.
#[derive(Debug, Clone)]
pub struct SharedImageCache(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// Numbers of one layer's keys and values of one image.
    pub(crate) layer_len: usize,
    /// Of all layers.
    image_len: usize,
    /// Tokens of an image and numbers of a token, in its features.
    shape: [i64; 2],
    entries: Mutex<Entries>,
}

#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) features: LruCache<ImageDigest, FloatBuffer>,
    pub(crate) key_values: LruCache<ImageDigest, FloatBuffer>,
    /// Images of which keys and values may be kept or under way.
    max_key_values: usize,
    /// Of so many they are under way.
    pub(crate) in_use: usize,
    /// Memory of keys and values that are kept no more.
    pub(crate) free: Vec<FloatBuffer>,
}

impl SharedImageCache {
    /// The memory for models of `checkpoint` with these choices; none where each engine has a memory of its own: on a device, and
    /// for models that LibTorch's kernels compute.
    pub fn for_models(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: &LoadOptions,
    ) -> Option<Self> {
        let config = checkpoint.config();
        options.cpu_kernels.are_native_for_texts(config.vision.is_small(), device, dtype).then(|| {
            let shape = match config.architecture() {
                Architecture::QuestionAnswering => Some(KeyValueShape::for_config(config)),
                Architecture::Captioning | Architecture::Retrieval => None,
            };
            let features = [config.vision.tokens(), config.vision.hidden_size];
            Self::new(
                options.feature_slots(config, dtype),
                features,
                shape,
                options.cross_attention_cache_bytes,
            )
        })
    }

    /// A memory for the `features` `[tokens, hidden]` of so many images, and for as many images' keys and values as fit the bytes.
    pub(crate) fn new(
        images: NonZeroUsize,
        features: [i64; 2],
        key_values: Option<KeyValueShape>,
        key_value_bytes: usize,
    ) -> Self {
        let of_image = key_values.map_or(0, |shape| shape.bytes(Kind::Float));
        Self(Arc::new(Inner {
            layer_len: key_values.map_or(0, |shape| shape.layer_len()),
            image_len: key_values.map_or(0, |shape| shape.len()),
            shape: features,
            entries: Mutex::new(Entries {
                features: LruCache::new(images),
                key_values: LruCache::unbounded(),
                max_key_values: key_value_bytes.checked_div(of_image).unwrap_or(0),
                in_use: 0,
                free: Vec::new(),
            }),
        }))
    }

    /// Tokens of an image and numbers of a token, in its features.
    pub(crate) fn shape(&self) -> [i64; 2] {
        self.0.shape
    }

    /// Images whose features are kept now.
    pub(crate) fn len(&self) -> usize {
        self.0.entries().features.len()
    }

    /// Returns the features of each image, or `None` for an image that is not cached.
    pub(crate) fn find<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a ImageDigest>,
    ) -> Vec<Option<FloatBuffer>> {
        let mut entries = self.0.entries();
        keys.into_iter().map(|key| entries.features.get(key).cloned()).collect()
    }

    /// Keeps the features of images. `rows` hears of each image that is kept from now on, and of each that gives way, in the
    /// order in which all engines' images come and go.
    pub(crate) fn insert(
        &self,
        made: impl IntoIterator<Item = (ImageDigest, FloatBuffer)>,
        rows: &mut dyn RowSink,
    ) {
        let mut entries = self.0.entries();
        for (key, features) in made {
            // Another engine may have been quicker.
            if entries.features.contains(&key) {
                continue;
            }
            let bytes = std::mem::size_of_val(&*features);
            if let Some((evicted, _)) = entries.features.push(key, features) {
                entries.forget(&evicted);
                rows.image_evicted(&evicted);
            }
            rows.image_cached(&key, bytes);
        }
    }
}

impl Inner {
    /// Complete whenever the lock is free, even if its last holder panicked.
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Memory for an image's keys and values that nobody else sees, if need be that of one of the `evictable` images.
    pub(crate) fn take_buffer(&mut self, shared: &Inner, evictable: &mut usize) -> Option<FloatBuffer> {
        let free = if self.key_values.len() + self.in_use < self.max_key_values {
            self.free.pop()
        } else {
            *evictable = evictable.checked_sub(1)?;
            self.key_values.pop_lru().and_then(|(_, numbers)| into_unshared(numbers))
        };
        self.in_use += 1;
        Some(free.unwrap_or_else(|| std::iter::repeat_n(0.0, shared.image_len).collect()))
    }

    /// Gives up the keys and values of an image.
    fn forget(&mut self, key: &ImageDigest) {
        if let Some(numbers) = self.key_values.pop(key) {
            self.free.extend(into_unshared(numbers));
        }
    }
}
