//! What engines with one memory, the CPU's, keep of images: their features, and the keys and values that questions read of
//! them. One engine makes them, all read them.
//!
//! Numbers are there for others only when they are complete, and are not changed while anyone reads them: a batch holds on to
//! what it found and needs no lock to read it, even when the image has given way to another meanwhile.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use tch::{Device, Kind};

use crate::{
    batch::rows::{ImageKey, RowSink},
    cache::{
        float_buffer::{Numbers, unshared},
        key_value_shape::KeyValueShape,
    },
    checkpoint::{Checkpoint, config::Architecture},
    dtype::Dtype,
    options::ModelOptions,
};

/// A memory of images for all models of one checkpoint that are loaded in the same way.
#[derive(Debug, Clone)]
pub struct SharedImages(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    /// Numbers of one layer's keys and values of one image.
    pub(crate) layer_numbers: usize,
    /// Of all layers.
    image_numbers: usize,
    /// Tokens of an image and numbers of a token, in its features.
    shape: [i64; 2],
    kept: Mutex<Kept>,
}

#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) features: LruCache<ImageKey, Numbers>,
    pub(crate) key_values: LruCache<ImageKey, Numbers>,
    /// Images of which keys and values may be kept or under way.
    most_key_values: usize,
    /// Of so many they are under way.
    pub(crate) lent: usize,
    /// Memory of keys and values that are kept no more.
    pub(crate) spare: Vec<Numbers>,
}

impl SharedImages {
    /// The memory for models of `checkpoint` with these choices; none where each engine has a memory of its own: on a device, and
    /// for models that LibTorch's kernels compute.
    pub fn for_models(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: &ModelOptions,
    ) -> Option<Self> {
        let config = checkpoint.config();
        options.cpu_kernels.are_own_for_texts(config.vision.is_small(), device, dtype).then(|| {
            let shape = match config.architecture() {
                Architecture::QuestionAnswering => Some(KeyValueShape::for_config(config)),
                Architecture::Captioning | Architecture::Retrieval => None,
            };
            let features = [config.vision.tokens(), config.vision.hidden_size];
            Self::new(options.feature_slots(config, dtype), features, shape, options.key_value_cache_bytes)
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
        Self(Arc::new(Shared {
            layer_numbers: key_values.map_or(0, |shape| shape.layer_numbers()),
            image_numbers: key_values.map_or(0, |shape| shape.numbers()),
            shape: features,
            kept: Mutex::new(Kept {
                features: LruCache::new(images),
                key_values: LruCache::unbounded(),
                most_key_values: key_value_bytes.checked_div(of_image).unwrap_or(0),
                lent: 0,
                spare: Vec::new(),
            }),
        }))
    }

    /// Tokens of an image and numbers of a token, in its features.
    pub(crate) fn shape(&self) -> [i64; 2] {
        self.0.shape
    }

    /// Images whose features are kept now.
    pub(crate) fn len(&self) -> usize {
        self.0.kept().features.len()
    }

    /// The features of those of the images that are kept.
    pub(crate) fn find<'a>(&self, keys: impl IntoIterator<Item = &'a ImageKey>) -> Vec<Option<Numbers>> {
        let mut kept = self.0.kept();
        keys.into_iter().map(|key| kept.features.get(key).cloned()).collect()
    }

    /// Keeps the features of images. `rows` hears of each image that is kept from now on, and of each that gives way, in the
    /// order in which all engines' images come and go.
    pub(crate) fn keep(&self, made: impl IntoIterator<Item = (ImageKey, Numbers)>, rows: &mut dyn RowSink) {
        let mut kept = self.0.kept();
        for (key, features) in made {
            // Another engine may have been quicker.
            if kept.features.contains(&key) {
                continue;
            }
            let bytes = std::mem::size_of_val(&*features);
            if let Some((evicted, _)) = kept.features.push(key, features) {
                kept.forget(&evicted);
                rows.image_evicted(&evicted);
            }
            rows.image_cached(&key, bytes);
        }
    }
}

impl Shared {
    /// Complete whenever the lock is free, even if its last holder panicked.
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Memory for an image's keys and values that nobody else sees, if need be that of one of the `evictable` images.
    pub(crate) fn lend(&mut self, shared: &Shared, evictable: &mut usize) -> Option<Numbers> {
        let spare = if self.key_values.len() + self.lent < self.most_key_values {
            self.spare.pop()
        } else {
            *evictable = evictable.checked_sub(1)?;
            self.key_values.pop_lru().and_then(|(_, numbers)| unshared(numbers))
        };
        self.lent += 1;
        Some(spare.unwrap_or_else(|| std::iter::repeat_n(0.0, shared.image_numbers).collect()))
    }

    /// Gives up the keys and values of an image.
    fn forget(&mut self, key: &ImageKey) {
        if let Some(numbers) = self.key_values.pop(key) {
            self.spare.extend(unshared(numbers));
        }
    }
}
