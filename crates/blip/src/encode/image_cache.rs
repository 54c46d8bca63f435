//! Where a model keeps what it has made of images, and what a batch takes from there.

use crate::{
    batch::{
        layout::Source,
        rows::{ImageInput, ImageKey, RowSink},
    },
    cache::{
        batch_features::BatchFeatures,
        batch_key_values::BatchKeyValues,
        cross_attention::KeyValueCache,
        features::{FeatureCache, Placement},
        float_buffer::Numbers,
        shared::SharedImages,
    },
    cuda_graphs::DeviceGraphs,
    encode::image_encoder::ImageEncoder,
    error::ModelError,
    preprocess::Pixels,
};

/// What is kept of images that were seen.
#[derive(Debug)]
pub(crate) enum SeenImages {
    /// Tensors on the model's device.
    Own(Box<(FeatureCache, KeyValueCache)>),
    /// Numbers in the CPU's memory, with other engines.
    Shared(SharedImages),
}

impl SeenImages {
    /// Images whose features are kept now.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Own(own) => own.0.len(),
            Self::Shared(images) => images.len(),
        }
    }

    /// For a batch that begins.
    pub(crate) fn batch(&mut self) -> BatchImages<'_> {
        match self {
            Self::Own(own) => {
                let (features, key_values) = &mut **own;
                BatchImages::Slots { features, key_values, slots: Vec::new() }
            }
            Self::Shared(home) => {
                BatchImages::Numbers { features: Vec::new(), key_values: BatchKeyValues::new(home), home }
            }
        }
    }
}

/// What a batch has of its distinct images: first it asks for the place of their keys and values, then for their features.
#[derive(Debug)]
pub(crate) enum BatchImages<'a> {
    Slots { features: &'a mut FeatureCache, key_values: &'a mut KeyValueCache, slots: Vec<i64> },
    Numbers { home: &'a SharedImages, features: Vec<Numbers>, key_values: BatchKeyValues },
}

/// Keys and values that the questions of a batch read.
#[derive(Debug)]
pub(crate) enum KeyValues<'a> {
    /// In slots of the cache.
    Slots(&'a mut KeyValueCache),
    /// The batch's own.
    Numbers(BatchKeyValues),
}

impl<'a> BatchImages<'a> {
    /// Where keys and values come from, of images that are each given with the number of queries over it.
    pub(crate) fn place_key_values(&mut self, images: &[(ImageKey, i64)]) -> Vec<Source> {
        match self {
            Self::Slots { key_values, .. } => key_values.place(images),
            Self::Numbers { key_values, .. } => key_values.place(images.iter().map(|&(key, _)| key)),
        }
    }

    /// Brings the images' features here, encoding only those that are not remembered: gives back their positions.
    pub(crate) fn encode(
        &mut self,
        images: &[ImageInput<'_>],
        encoder: &mut ImageEncoder,
        graphs: &mut DeviceGraphs,
        rows: &mut dyn RowSink,
    ) -> Result<Vec<usize>, ModelError> {
        match self {
            Self::Slots { features, key_values, slots } => {
                let placement = place(features, key_values, images, rows)?;
                let missing: Vec<_> = of(images, &placement.missing).collect();
                let empty: Vec<i64> = of(&placement.slots, &placement.missing).copied().collect();
                let bytes = features.image_bytes();
                let encoded = encoder.encode(&pixels(&missing), graphs, |places, made| {
                    features.store(empty.get(places).unwrap_or_default(), made)
                });
                if let Err(error) = encoded {
                    for image in missing {
                        features.forget(&image.key);
                        key_values.forget(&image.key);
                    }
                    return Err(error.into());
                }
                missing.iter().for_each(|image| rows.image_cached(&image.key, bytes));
                *slots = placement.slots;
                Ok(placement.missing)
            }
            Self::Numbers { home, features, .. } => {
                let found = home.find(images.iter().map(|image| &image.key));
                let missing: Vec<usize> = (0..)
                    .zip(&found)
                    .filter(|(_, found)| found.is_none())
                    .map(|(position, _)| position)
                    .collect();
                let inputs: Vec<_> = of(images, &missing).collect();
                let made = encoder.encode_to_numbers(&pixels(&inputs), graphs)?;
                home.keep(inputs.iter().map(|image| image.key).zip(made.iter().cloned()), rows);
                let mut made = made.into_iter();
                features.extend(found.into_iter().filter_map(|found| found.or_else(|| made.next())));
                Ok(missing)
            }
        }
    }

    /// What the batch reads.
    pub(crate) fn read(self) -> (BatchFeatures<'a>, KeyValues<'a>) {
        match self {
            Self::Slots { features, key_values, slots } => {
                (BatchFeatures::Slots(features, slots), KeyValues::Slots(key_values))
            }
            Self::Numbers { home, features, key_values } => {
                (BatchFeatures::Numbers(features, home.shape()), KeyValues::Numbers(key_values))
            }
        }
    }
}

/// A slot for the features of each image, those that are not remembered to be filled.
fn place(
    features: &mut FeatureCache,
    key_values: &mut KeyValueCache,
    images: &[ImageInput<'_>],
    rows: &mut dyn RowSink,
) -> Result<Placement, ModelError> {
    let keys: Vec<ImageKey> = images.iter().map(|image| image.key).collect();
    let placement = features.place(&keys).ok_or_else(|| {
        let (images, limit) = (keys.len(), features.slots());
        ModelError::BadBatch(format!("batch has {images} images, limit is {limit}"))
    })?;
    for key in &placement.evicted {
        key_values.forget(key);
        rows.image_evicted(key);
    }
    Ok(placement)
}

/// Those of `list` at `positions`.
fn of<'a, T>(list: &'a [T], positions: &[usize]) -> impl Iterator<Item = &'a T> {
    positions.iter().filter_map(|&position| list.get(position))
}

fn pixels<'a>(images: &[&ImageInput<'a>]) -> Vec<&'a Pixels> {
    images.iter().map(|image| image.pixels).collect()
}
