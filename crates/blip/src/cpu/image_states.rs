//! What the question encoder reads of a batch's images: keys and values, cached or computed.

use cpu_kernels::{After, Heads, Linear, Rows};
use tch::TchError;

use crate::{
    batch::layout::KvSource,
    cache::{batch_features::BatchFeatures, batch_key_values::BatchKeyValues},
    cpu::{buffer_pool::Buffer, load::size},
};

/// The images of a batch, in the order of its layout.
#[derive(Debug)]
pub(crate) struct CpuImageStates<'a> {
    features: &'a BatchFeatures<'a>,
    cache: &'a mut BatchKeyValues,
    tokens: usize,
}

impl<'a> CpuImageStates<'a> {
    /// Images of `tokens` each, of which some have, or will have, cached keys and values.
    pub(crate) fn new(features: &'a BatchFeatures<'a>, cache: &'a mut BatchKeyValues, tokens: i64) -> Self {
        Self { features, cache, tokens: size(tokens) }
    }

    /// Tokens of an image.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Keys and values of the image at `position`, as [`Heads::pack`] has them, for layer number `layer`, whose projection is
    /// `key_value`; `buffers` are for those that are not cached.
    pub(super) fn key_values<'b>(
        &'b mut self,
        (position, source): (usize, KvSource),
        layer: usize,
        key_value: &Linear,
        heads: Heads,
        [wide, packed]: [&'b mut Buffer; 2],
    ) -> Result<&'b [f32], TchError> {
        let tokens = self.tokens;
        let packed = match source {
            KvSource::Cached(slot) => return self.cache.read(layer, slot),
            KvSource::ComputeAndStore(slot) => self.cache.write(layer, slot)?,
            KvSource::Compute => packed.take(heads.packed_len(tokens)),
        };
        let made = wide.take(tokens * key_value.outputs());
        key_value.forward(self.features.buffer(position)?, made, After::Nothing);
        let rows = Rows { numbers: made, stride: key_value.outputs() };
        heads.pack(rows, rows.from(heads.width()), tokens, packed);
        Ok(packed)
    }
}
