//! Memory for the quantized inputs of a call.

use crate::packed_panels::PackedPanels;

/// Memory for the quantized inputs of a call. It is reused between calls.
#[derive(Clone, Debug, Default)]
pub struct Int8Scratch {
    inputs: PackedPanels,
    scales: Vec<f32>,
}

impl Int8Scratch {
    /// Returns memory for `rows` rows of `row_bytes` bytes, and for the scale of each row.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only the int8 kernel needs it"))]
    pub(super) fn reserve(&mut self, rows: usize, row_bytes: usize) -> (&mut [u8], &mut [f32]) {
        let bytes = rows * row_bytes;
        self.inputs.grow(bytes.div_ceil(size_of::<f32>()));
        self.scales.resize(rows, 0.0);
        (self.inputs.cast_mut().get_mut(..bytes).unwrap_or_default(), &mut self.scales)
    }
}
