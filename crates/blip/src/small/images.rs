//! What the question encoder reads of a batch's images: keys and values, kept or made.

use cpu_kernels::{After, Heads, Linear, Rows};
use tch::{TchError, Tensor};

use super::buffer::Buffer;
use crate::{fold::Source, key_value_cache::KeyValueCache, tensor_numbers::numbers};

/// The images of a batch, in the order of its fold.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    /// `[images, tokens, hidden]`.
    features: &'a [f32],
    of_image: usize,
    tokens: usize,
    kept: &'a mut KeyValueCache,
}

impl<'a> Images<'a> {
    /// Images of which some have, or will have, keys and values in the cache.
    pub(crate) fn new(features: &'a Tensor, kept: &'a mut KeyValueCache) -> Result<Self, TchError> {
        let (_, tokens, hidden) = features.size3()?;
        let [tokens, hidden] = [tokens, hidden].map(super::load::size);
        Ok(Self { features: numbers(features)?, of_image: tokens * hidden, tokens, kept })
    }

    /// Tokens of an image.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
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
        let kept = source.slot().map(|slot| self.kept.numbers_mut(layer, slot)).transpose()?;
        let packed = match (source, kept) {
            (Source::Kept(_), Some(kept)) => return Ok(kept),
            (_, Some(kept)) => kept,
            (_, None) => packed.take(heads.packed_len(self.tokens)),
        };
        let features = self.features.get(place * self.of_image..).unwrap_or_default();
        let features = features.get(..self.of_image).unwrap_or_default();
        let made = wide.take(self.tokens * key_value.outputs());
        key_value.forward(features, made, After::Nothing);
        let rows = Rows { numbers: made, stride: key_value.outputs() };
        heads.pack(rows, rows.from(heads.width()), self.tokens, packed);
        Ok(packed)
    }
}
