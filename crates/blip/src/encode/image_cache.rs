//! The image cache of a model, and the part of it that one batch uses.

use crate::{
    batch::{
        layout::KvSource,
        rows::{ImageDigest, ImageInput, RowSink},
    },
    cache::{
        batch_features::BatchFeatures,
        batch_key_values::BatchKeyValues,
        cross_attention::CrossAttentionCache,
        feature_buffer::FeatureBuffer,
        features::{FeatureCache, SlotAssignment},
        shared::SharedImageCache,
    },
    cuda_graphs::CudaGraphs,
    device::torch_panics::return_torch_panics,
    encode::image_encoder::ImageEncoder,
    error::ModelError,
    preprocess::Pixels,
};

/// Values that are computed from images and stored for later batches.
#[derive(Debug)]
pub(crate) enum ImageCache {
    /// Tensors on the model's device, used by this model only.
    Exclusive(Box<(FeatureCache, CrossAttentionCache)>),
    /// Buffers in main memory, shared with other engines.
    Shared(SharedImageCache),
}

impl ImageCache {
    /// Returns the number of images whose features are cached.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Exclusive(caches) => caches.0.len(),
            Self::Shared(images) => images.len(),
        }
    }

    /// Returns the size of one image's features, in bytes.
    pub(crate) fn image_bytes(&self) -> usize {
        match self {
            Self::Exclusive(caches) => caches.0.image_bytes(),
            Self::Shared(images) => images.image_bytes(),
        }
    }

    /// Begins the use of the cache by a batch.
    pub(crate) fn batch(&mut self) -> BatchImages<'_> {
        match self {
            Self::Exclusive(caches) => {
                let (features, key_values) = &mut **caches;
                BatchImages::Slots { features, key_values, slots: Vec::new() }
            }
            Self::Shared(cache) => {
                BatchImages::Buffers { features: Vec::new(), key_values: BatchKeyValues::new(cache), cache }
            }
        }
    }
}

/// The cached values of a batch's distinct images.
///
/// The caller first assigns the sources of keys and values, then encodes, then reads.
#[derive(Debug)]
pub(crate) enum BatchImages<'a> {
    /// Slots of the tensors of an [`ImageCache::Exclusive`].
    Slots { features: &'a mut FeatureCache, key_values: &'a mut CrossAttentionCache, slots: Vec<i64> },
    /// Buffers of a [`SharedImageCache`].
    Buffers { cache: &'a SharedImageCache, features: Vec<FeatureBuffer>, key_values: BatchKeyValues },
}

/// Access to the keys and values that a batch's questions read.
#[derive(Debug)]
pub(crate) enum KeyValueAccess<'a> {
    /// Slots of the cache.
    Slots(&'a mut CrossAttentionCache),
    /// Buffers of this batch.
    Buffers(BatchKeyValues),
}

impl<'a> BatchImages<'a> {
    /// Returns the source of each image's keys and values. An image is given with its number of
    /// queries.
    pub(crate) fn assign_sources(&mut self, images: &[(ImageDigest, i64)]) -> Vec<KvSource> {
        match self {
            Self::Slots { key_values, .. } => key_values.assign_sources(images),
            Self::Buffers { key_values, .. } => key_values.assign_sources(images),
        }
    }

    /// Makes the images' features available and encodes those that are not cached.
    ///
    /// Returns the positions of the encoded images.
    ///
    /// # Errors
    /// [`ModelError`] if the batch has more images than the cache has slots, or if encoding failed.
    pub(crate) fn encode(
        &mut self,
        images: &[ImageInput<'_>],
        encoder: &mut ImageEncoder,
        graphs: &mut CudaGraphs,
        rows: &mut dyn RowSink,
    ) -> Result<Vec<usize>, ModelError> {
        match self {
            Self::Slots { features, key_values, slots } => {
                let assignment = assign_slots(features, key_values, images, rows)?;
                let missing: Vec<_> = at_positions(images, &assignment.missing).collect();
                let empty: Vec<i64> = at_positions(&assignment.slots, &assignment.missing).copied().collect();
                let bytes = features.image_bytes();
                let store = |positions, encoded: &_| {
                    features.store(empty.get(positions).unwrap_or_default(), encoded)
                };
                let encoded = return_torch_panics(|| encoder.encode(&pixels(&missing), graphs, store));
                if let Err(error) = encoded {
                    for image in missing {
                        features.forget(&image.digest);
                        key_values.forget(&image.digest);
                    }
                    return Err(error.into());
                }
                missing.iter().for_each(|image| rows.image_cached(&image.digest, bytes));
                *slots = assignment.slots;
                Ok(assignment.missing)
            }
            Self::Buffers { cache, features, .. } => {
                let found = cache.find(images.iter().map(|image| &image.digest));
                let missing: Vec<usize> = (0..)
                    .zip(&found)
                    .filter(|(_, found)| found.is_none())
                    .map(|(position, _)| position)
                    .collect();
                let inputs: Vec<_> = at_positions(images, &missing).collect();
                let made = encoder.encode_to_buffers(&pixels(&inputs), graphs, cache.format())?;
                cache.insert(inputs.iter().map(|image| image.digest).zip(made.iter().cloned()), rows);
                let mut made = made.into_iter();
                features.extend(found.into_iter().filter_map(|found| found.or_else(|| made.next())));
                Ok(missing)
            }
        }
    }

    /// Returns the features, keys and values of the batch.
    pub(crate) fn read(self) -> (BatchFeatures<'a>, KeyValueAccess<'a>) {
        match self {
            Self::Slots { features, key_values, slots } => {
                (BatchFeatures::Slots(features, slots), KeyValueAccess::Slots(key_values))
            }
            Self::Buffers { cache, features, key_values } => {
                (BatchFeatures::Buffers(features, cache.shape()), KeyValueAccess::Buffers(key_values))
            }
        }
    }
}

/// Assigns a slot to the features of each image. Slots of images that are not cached are still
/// empty.
fn assign_slots(
    features: &mut FeatureCache,
    key_values: &mut CrossAttentionCache,
    images: &[ImageInput<'_>],
    rows: &mut dyn RowSink,
) -> Result<SlotAssignment, ModelError> {
    let keys: Vec<ImageDigest> = images.iter().map(|image| image.digest).collect();
    let assignment = features.assign_slots(&keys).ok_or_else(|| {
        let (images, limit) = (keys.len(), features.slots());
        ModelError::BadBatch(format!("too many images in the batch: {images}, limit {limit}"))
    })?;
    for key in &assignment.evicted {
        key_values.forget(key);
        rows.image_evicted(key);
    }
    Ok(assignment)
}

/// Returns the elements of `list` at `positions`.
fn at_positions<'a, T>(list: &'a [T], positions: &[usize]) -> impl Iterator<Item = &'a T> {
    positions.iter().filter_map(|&position| list.get(position))
}

/// Returns the pixels of `images`.
fn pixels<'a>(images: &[&ImageInput<'a>]) -> Vec<&'a Pixels> {
    images.iter().map(|image| image.pixels).collect()
}
