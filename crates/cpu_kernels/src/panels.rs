//! Columns side by side, as [`crate::tile`] reads them.

use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};

/// A cache line of numbers: panels begin at one, so that no load crosses two.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Zeros to begin with, as many as were asked for and some to fill the last line.
#[derive(Clone, Debug)]
pub(crate) struct Panels(Vec<Line>);

impl Panels {
    pub(crate) fn zeros(numbers: usize) -> Self {
        Self(vec![Line([0.0; 16]); numbers.div_ceil(16)])
    }

    pub(crate) fn numbers(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    pub(crate) fn numbers_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Numbers that a vector of this processor holds.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}
