//! Memory that begins at a cache line, for what kernels read and write.

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};

/// A cache line. No vector that begins at one crosses two lines.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// Numbers that begin at a cache line. Their count is rounded up to whole lines.
#[derive(Clone, Debug, Default)]
pub struct AlignedNumbers(Vec<CacheLine>);

impl AlignedNumbers {
    /// Creates at least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self(vec![CacheLine([0.0; 16]); len.div_ceil(16)])
    }

    /// Returns all numbers.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    /// Returns `count` numbers with unspecified values. The memory never shrinks.
    pub fn take(&mut self, count: usize) -> &mut [f32] {
        self.grow(count);
        self.as_mut_slice().get_mut(..count).unwrap_or_default()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    /// Returns the same memory as values of another type. It must be a whole number of them.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_never_shrinks() {
        let mut numbers = AlignedNumbers::default();
        for count in [0, 1, 16, 1_000, 3] {
            let taken = numbers.take(count);
            assert_eq!((taken.len(), taken.as_ptr().addr() % 64), (count, 0));
            taken.fill(1.0);
        }
        assert_eq!(numbers.as_slice().iter().filter(|&&number| number == 1.0).count(), 1_000);
    }
}
