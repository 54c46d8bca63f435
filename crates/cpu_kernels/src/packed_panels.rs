//! Cache-aligned memory for the panels that the microkernels read.

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};

/// A cache line. Panels begin at one, so that no vector load crosses two lines.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// Weights, keys or values in the order in which a microkernel reads them.
///
/// The length is rounded up to whole cache lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedPanels(Vec<CacheLine>);

impl PackedPanels {
    /// Creates at least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self(vec![CacheLine([0.0; 16]); len.div_ceil(16)])
    }

    pub(crate) fn as_f32(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    pub(crate) fn as_f32_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    /// Returns the same memory as values of another type, whose size must divide 64 bytes.
    pub(crate) fn cast<T: AnyBitPattern>(&self) -> &[T] {
        bytemuck::cast_slice(&self.0)
    }

    pub(crate) fn cast_mut<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    /// Grows the memory to at least `len` values. It never shrinks.
    pub(crate) fn grow(&mut self, len: usize) {
        let lines = len.div_ceil(16).max(self.0.len());
        self.0.resize(lines, CacheLine([0.0; 16]));
    }
}
