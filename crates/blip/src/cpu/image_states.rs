//! The cross-attention keys and values of a batch's images, cached or computed.

use cpu_kernels::{CpuLinear, Epilogue, Heads, MatrixRows};
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
    /// Creates the states of images with `tokens` tokens each. Keys and values may be in `cache`.
    pub(crate) fn new(features: &'a BatchFeatures<'a>, cache: &'a mut BatchKeyValues, tokens: i64) -> Self {
        Self { features, cache, tokens: size(tokens) }
    }

    /// Returns the number of tokens of an image.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the keys and values of the image at `position` for layer `layer`, in the layout of
    /// [`Heads::pack`].
    ///
    /// `key_value` is the layer's projection. The buffers hold keys and values that are not cached.
    ///
    /// # Errors
    /// [`TchError`] if the image has no features or its cache slot is missing.
    pub(super) fn key_values<'b>(
        &'b mut self,
        (position, source): (usize, KvSource),
        layer: usize,
        key_value: &CpuLinear,
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
        key_value.forward(self.features.buffer(position)?, made, Epilogue::Store);
        let rows = MatrixRows { data: made, stride: key_value.outputs() };
        heads.pack(rows, rows.skip_columns(heads.width()), tokens, packed);
        Ok(packed)
    }
}
