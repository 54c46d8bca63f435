//! The cross-attention keys and values that one batch reads from the shared cache or adds to it.

use std::sync::Arc;

use tch::TchError;

use crate::{
    batch::{layout::Source, rows::ImageKey},
    cache::{
        float_buffer::Numbers,
        shared::{Shared, SharedImages},
    },
};

/// Keys and values that one batch reads, and those that it makes for later ones.
#[derive(Debug)]
pub(crate) struct BatchKeyValues {
    home: Arc<Shared>,
    images: Vec<KeyValues>,
}

#[derive(Debug)]
enum KeyValues {
    Read(Numbers),
    /// Nobody else holds them yet.
    Write(ImageKey, Numbers),
}

impl BatchKeyValues {
    /// Creates the access of one batch to `cache`.
    pub(crate) fn new(cache: &SharedImages) -> Self {
        Self { home: Arc::clone(&cache.0), images: Vec::new() }
    }

    /// Says for each of the distinct images of the batch where its keys and values come from; slots are places here. They are
    /// worth keeping from the second batch on that asks about an image: each makes them in any case. No image of the batch takes
    /// another's place.
    pub(crate) fn place(&mut self, images: impl IntoIterator<Item = ImageKey>) -> Vec<Source> {
        let kept = &mut *self.home.kept();
        // First all that are here become the most recent, so that making room below cannot push one out.
        let found: Vec<_> = images.into_iter().map(|key| (key, kept.key_values.get(&key).cloned())).collect();
        let mut evictable = kept.key_values.len() - found.iter().filter(|(_, found)| found.is_some()).count();
        let mut place = |(key, found): (ImageKey, Option<Numbers>)| {
            let slot = self.images.len() as i64;
            if let Some(numbers) = found {
                self.images.push(KeyValues::Read(numbers));
                return Source::Kept(slot);
            }
            let was_seen = kept.features.contains(&key);
            match was_seen.then(|| kept.lend(&self.home, &mut evictable)).flatten() {
                Some(numbers) => {
                    self.images.push(KeyValues::Write(key, numbers));
                    Source::Keep(slot)
                }
                None => Source::Features,
            }
        };
        found.into_iter().map(&mut place).collect()
    }

    /// Those of a layer that were kept before.
    pub(crate) fn read(&self, layer: usize, slot: i64) -> Result<&[f32], TchError> {
        let numbers = match self.images.get(slot as usize) {
            Some(KeyValues::Read(numbers)) => numbers.get(self.range(layer)),
            _ => None,
        };
        numbers.ok_or_else(|| missing(layer, slot))
    }

    /// Those of a layer that this batch makes.
    pub(crate) fn write(&mut self, layer: usize, slot: i64) -> Result<&mut [f32], TchError> {
        let range = self.range(layer);
        let numbers = match self.images.get_mut(slot as usize) {
            Some(KeyValues::Write(_, numbers)) => {
                Arc::get_mut(numbers).and_then(|numbers| numbers.get_mut(range))
            }
            _ => None,
        };
        numbers.ok_or_else(|| missing(layer, slot))
    }

    fn range(&self, layer: usize) -> std::ops::Range<usize> {
        layer * self.home.layer_numbers..(layer + 1) * self.home.layer_numbers
    }

    /// All layers have been through: what was made is for others, too. What a batch that fails before has made is not.
    pub(crate) fn settle(&mut self) {
        let mut kept = self.home.kept();
        for image in &mut self.images {
            let KeyValues::Write(key, numbers) = image else { continue };
            // Its features may have given way meanwhile, or another engine may have been quicker.
            if kept.features.contains(key) && !kept.key_values.contains(key) {
                kept.lent -= 1;
                kept.key_values.put(*key, Arc::clone(numbers));
                *image = KeyValues::Read(Arc::clone(numbers));
            }
        }
    }
}

impl Drop for BatchKeyValues {
    fn drop(&mut self) {
        let mut kept = self.home.kept();
        for image in self.images.drain(..) {
            if let KeyValues::Write(_, numbers) = image {
                kept.lent -= 1;
                kept.spare.push(numbers);
            }
        }
    }
}

fn missing(layer: usize, slot: i64) -> TchError {
    TchError::Shape(format!("no slot {slot} of layer {layer}"))
}
