//! What the question encoder reads of a batch's images: keys and values, kept or made.

use cpu_kernels::{After, Heads, Linear, Rows};
use tch::TchError;

use super::{buffer::Buffer, load::size};
use crate::{feature_cache::BatchFeatures, fold::Source, key_value_cache::KeyValueCache};

/// The images of a batch, in the order of its fold.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    features: &'a BatchFeatures<'a>,
    kept: &'a mut KeyValueCache,
}

impl<'a> Images<'a> {
    /// Images of which some have, or will have, keys and values in the cache.
    pub(crate) fn new(features: &'a BatchFeatures<'a>, kept: &'a mut KeyValueCache) -> Self {
        Self { features, kept }
    }

    /// Tokens of an image.
    pub(super) fn tokens(&self) -> usize {
        size(self.features.tokens())
    }

    /// Keys and values of the image at `place`, as [`Heads::pack`] has them, for layer number `layer`, whose projection is
    /// `key_value`; `buffers` are for those that are not kept.
    pub(super) fn key_values<'b>(
        &'b mut self,
        (place, source): (usize, Source),
        layer: usize,
        key_value: &Linear,
        heads: Heads,
        [wide, packed]: [&'b mut Buffer; 2],
    ) -> Result<&'b [f32], TchError> {
        let tokens = self.tokens();
        let kept = source.slot().map(|slot| self.kept.numbers_mut(layer, slot)).transpose()?;
        let packed = match (source, kept) {
            (Source::Kept(_), Some(kept)) => return Ok(kept),
            (_, Some(kept)) => kept,
            (_, None) => packed.take(heads.packed_len(tokens)),
        };
        let made = wide.take(tokens * key_value.outputs());
        key_value.forward(self.features.numbers(place)?, made, After::Nothing);
        let rows = Rows { numbers: made, stride: key_value.outputs() };
        heads.pack(rows, rows.from(heads.width()), tokens, packed);
        Ok(packed)
    }
}
