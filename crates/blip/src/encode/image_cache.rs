//! Where a model keeps what it has made of images, and what a batch takes from there.

use crate::{
    batch::{
        layout::KvSource,
        rows::{ImageDigest, ImageInput, RowSink},
    },
    cache::{
        batch_features::BatchFeatures,
        batch_key_values::BatchKeyValues,
        cross_attention::CrossAttentionCache,
        features::{FeatureCache, SlotAssignment},
        float_buffer::FloatBuffer,
        shared::SharedImageCache,
    },
    cuda_graphs::CudaGraphs,
    encode::image_encoder::ImageEncoder,
    error::ModelError,
    preprocess::Pixels,
};

/// What is kept of images that were seen.
#[derive(Debug)]
pub(crate) enum ImageCache {
    /// Tensors on the model's device.
    Exclusive(Box<(FeatureCache, CrossAttentionCache)>),
    /// Numbers in the CPU's memory, with other engines.
    Shared(SharedImageCache),
}

impl ImageCache {
    /// Images whose features are kept now.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Exclusive(caches) => caches.0.len(),
            Self::Shared(images) => images.len(),
        }
    }

    /// For a batch that begins.
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

/// What a batch has of its distinct images: first it asks for the place of their keys and values, then for their features.
#[derive(Debug)]
pub(crate) enum BatchImages<'a> {
    Slots { features: &'a mut FeatureCache, key_values: &'a mut CrossAttentionCache, slots: Vec<i64> },
    Buffers { cache: &'a SharedImageCache, features: Vec<FloatBuffer>, key_values: BatchKeyValues },
}

/// Keys and values that the questions of a batch read.
#[derive(Debug)]
pub(crate) enum KeyValueAccess<'a> {
    /// In slots of the cache.
    Slots(&'a mut CrossAttentionCache),
    /// Buffers of this batch.
    Buffers(BatchKeyValues),
}

impl<'a> BatchImages<'a> {
    /// Where keys and values come from, of images that are each given with the number of queries over it.
    pub(crate) fn assign_sources(&mut self, images: &[(ImageDigest, i64)]) -> Vec<KvSource> {
        match self {
            Self::Slots { key_values, .. } => key_values.assign_sources(images),
            Self::Buffers { key_values, .. } => key_values.assign_sources(images.iter().map(|&(key, _)| key)),
        }
    }

    /// Brings the images' features here, encoding only those that are not remembered: gives back their positions.
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
                let missing: Vec<_> = of(images, &assignment.missing).collect();
                let empty: Vec<i64> = of(&assignment.slots, &assignment.missing).copied().collect();
                let bytes = features.image_bytes();
                let encoded = encoder.encode(&pixels(&missing), graphs, |positions, encoded| {
                    features.store(empty.get(positions).unwrap_or_default(), encoded)
                });
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
                let inputs: Vec<_> = of(images, &missing).collect();
                let made = encoder.encode_to_buffers(&pixels(&inputs), graphs)?;
                cache.insert(inputs.iter().map(|image| image.digest).zip(made.iter().cloned()), rows);
                let mut made = made.into_iter();
                features.extend(found.into_iter().filter_map(|found| found.or_else(|| made.next())));
                Ok(missing)
            }
        }
    }

    /// What the batch reads.
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

/// A slot for the features of each image, those that are not remembered to be filled.
fn assign_slots(
    features: &mut FeatureCache,
    key_values: &mut CrossAttentionCache,
    images: &[ImageInput<'_>],
    rows: &mut dyn RowSink,
) -> Result<SlotAssignment, ModelError> {
    let keys: Vec<ImageDigest> = images.iter().map(|image| image.digest).collect();
    let assignment = features.assign_slots(&keys).ok_or_else(|| {
        let (images, limit) = (keys.len(), features.slots());
        ModelError::BadBatch(format!("batch has {images} images, limit is {limit}"))
    })?;
    for key in &assignment.evicted {
        key_values.forget(key);
        rows.image_evicted(key);
    }
    Ok(assignment)
}

/// Those of `list` at `positions`.
fn of<'a, T>(list: &'a [T], positions: &[usize]) -> impl Iterator<Item = &'a T> {
    positions.iter().filter_map(|&position| list.get(position))
}

fn pixels<'a>(images: &[&ImageInput<'a>]) -> Vec<&'a Pixels> {
    images.iter().map(|image| image.pixels).collect()
}
