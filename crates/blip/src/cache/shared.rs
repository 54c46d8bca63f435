//! The image cache that all engines on the CPU share: image features, and cross-attention keys and
//! values. One engine computes an entry, all engines read it.
//!
//! An entry becomes visible when it is complete and is never changed while a batch reads it. A
//! batch holds its entries by reference count. It therefore reads without a lock, even after an
//! eviction.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cpu_kernels::NumberFormat;
use lru::LruCache;
use tch::{Device, Kind};

use crate::{
    batch::rows::{ImageDigest, RowSink},
    cache::{
        feature_buffer::FeatureBuffer,
        float_buffer::{FloatBuffer, into_unshared},
        key_value_shape::{KeyValueShape, absorption_threshold},
    },
    checkpoint::{Checkpoint, config::Architecture},
    dtype::Dtype,
    options::LoadOptions,
};

/// Image cache that all models of one checkpoint with equal options share.
#[derive(Debug, Clone)]
pub struct SharedImageCache(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// Number of values of one image's keys and values in one layer.
    pub(crate) layer_len: usize,
    /// Number of values of one image's keys and values in all layers.
    image_len: usize,
    /// Shape of one image's features, `[tokens, hidden]`.
    shape: [i64; 2],
    /// Number format of the texts that read the features.
    format: NumberFormat,
    /// Number of queries over an image that cost as much as computing its keys and values. With 0
    /// each batch computes them in any case.
    admission_threshold: i64,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) features: LruCache<ImageDigest, FeatureBuffer>,
    pub(crate) key_values: LruCache<ImageDigest, FloatBuffer>,
    /// Largest number of images with keys and values, complete or in computation.
    pub(crate) max_key_values: usize,
    /// Number of images whose keys and values are in computation.
    pub(crate) in_use: usize,
    /// Unused buffers for keys and values.
    pub(crate) free: Vec<FloatBuffer>,
    /// Number of queries so far of images without keys and values.
    pub(crate) queries: HashMap<ImageDigest, i64>,
}

impl SharedImageCache {
    /// Creates the cache for models of `checkpoint` with these options.
    ///
    /// Returns `None` where each engine has a separate cache: on a device, and for models that
    /// LibTorch computes.
    pub fn for_models(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: &LoadOptions,
    ) -> Option<Self> {
        let config = checkpoint.config();
        let (dtype, parts) = options.number_formats(device, dtype);
        options.cpu_kernels.are_native(device, dtype).then(|| {
            let format = parts.text.number_format();
            let shape = match config.architecture() {
                Architecture::QuestionAnswering => Some(KeyValueShape::for_config(config, format)),
                Architecture::Captioning | Architecture::Retrieval => None,
            };
            let features = [config.vision.tokens(), config.vision.hidden_size];
            Self::new(
                options.feature_slots(config, FeatureBuffer::number_bytes(format)),
                (features, format),
                shape,
                options.cross_attention_cache_bytes,
                absorption_threshold(config),
            )
        })
    }

    /// Creates a cache for the features of `images` images, with their shape `[tokens, hidden]` and
    /// the number format of the texts that read them. The number of images with keys and values
    /// depends on `key_value_bytes`. `admission_threshold` is the number of queries over an image
    /// that cost as much as computing its keys and values.
    pub(crate) fn new(
        images: NonZeroUsize,
        (shape, format): ([i64; 2], NumberFormat),
        key_values: Option<KeyValueShape>,
        key_value_bytes: usize,
        admission_threshold: i64,
    ) -> Self {
        let image_bytes = key_values.map_or(0, |shape| shape.bytes(Kind::Float));
        Self(Arc::new(Inner {
            layer_len: key_values.map_or(0, |shape| shape.layer_len()),
            image_len: key_values.map_or(0, |shape| shape.len()),
            shape,
            format,
            admission_threshold,
            entries: Mutex::new(Entries {
                features: LruCache::new(images),
                key_values: LruCache::unbounded(),
                max_key_values: key_value_bytes.checked_div(image_bytes).unwrap_or(0),
                in_use: 0,
                free: Vec::new(),
                queries: HashMap::new(),
            }),
        }))
    }

    /// Shape of one image's features, `[tokens, hidden]`.
    pub(crate) fn shape(&self) -> [i64; 2] {
        self.0.shape
    }

    /// Number format of the texts that read the features.
    pub(crate) fn format(&self) -> NumberFormat {
        self.0.format
    }

    /// Returns the size of one image's features, in bytes.
    pub(crate) fn image_bytes(&self) -> usize {
        let numbers: i64 = self.0.shape.iter().product();
        usize::try_from(numbers).unwrap_or(0) * FeatureBuffer::number_bytes(self.0.format)
    }

    /// Returns the number of images with cached features.
    pub(crate) fn len(&self) -> usize {
        self.0.entries().features.len()
    }

    /// Returns the features of each image, or `None` for an image that is not cached.
    pub(crate) fn find<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a ImageDigest>,
    ) -> Vec<Option<FeatureBuffer>> {
        let mut entries = self.0.entries();
        keys.into_iter().map(|key| entries.features.get(key).cloned()).collect()
    }

    /// Stores the features of images.
    ///
    /// `rows` receives each stored and each evicted image, in the order in which the engines store
    /// and evict them.
    pub(crate) fn insert(
        &self,
        encoded: impl IntoIterator<Item = (ImageDigest, FeatureBuffer)>,
        rows: &mut dyn RowSink,
    ) {
        let bytes = self.image_bytes();
        let mut entries = self.0.entries();
        for (key, features) in encoded {
            // Another engine may have stored this image.
            if entries.features.contains(&key) {
                continue;
            }
            if let Some((evicted, _)) = entries.features.push(key, features) {
                entries.forget(&evicted);
                rows.image_evicted(&evicted);
            }
            rows.image_cached(&key, bytes);
        }
    }
}

impl Inner {
    /// Locks the entries. They are complete whenever the lock is free, even after a panic of its
    /// last holder.
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Adds `queries` queries over an image without keys and values, and returns whether the cache
    /// stores them if it has room.
    ///
    /// It does so from an image's second batch on, when its queries have reached the threshold.
    /// Images that never return would replace others, and new memory costs time: 24 images of the
    /// released size need 0.5 GiB in bf16.
    pub(crate) fn is_admitted(&mut self, shared: &Inner, key: ImageDigest, queries: i64) -> bool {
        let so_far = self.queries.entry(key).or_default();
        *so_far = so_far.saturating_add(queries);
        *so_far >= shared.admission_threshold && self.features.contains(&key)
    }

    /// Forgets the queries over an image that is not cached, or whose keys and values are stored.
    pub(crate) fn forget_queries(&mut self, key: &ImageDigest) {
        if !self.features.contains(key) || self.key_values.contains(key) {
            self.queries.remove(key);
        }
    }

    /// Returns a buffer for an image's keys and values that only the caller holds. If the cache is
    /// full, evicts one of the `evictable` images.
    pub(crate) fn take_buffer(&mut self, shared: &Inner, evictable: &mut usize) -> Option<FloatBuffer> {
        let free = if self.key_values.len() + self.in_use < self.max_key_values {
            self.free.pop()
        } else {
            *evictable = evictable.checked_sub(1)?;
            self.key_values.pop_lru().and_then(|(_, buffer)| into_unshared(buffer))
        };
        self.in_use += 1;
        Some(free.unwrap_or_else(|| std::iter::repeat_n(0.0, shared.image_len).collect()))
    }

    /// Removes the keys and values of an image, and the number of its queries.
    fn forget(&mut self, key: &ImageDigest) {
        self.queries.remove(key);
        if let Some(buffer) = self.key_values.pop(key) {
            self.free.extend(into_unshared(buffer));
        }
    }
}
