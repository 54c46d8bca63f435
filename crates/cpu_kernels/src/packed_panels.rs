//! Columns side by side, as [`crate::microkernel`] reads them.

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};

/// A cache line of numbers: panels begin at one, so that no load crosses two.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Zeros to begin with, as many as were asked for and some to fill the last line.
#[derive(Clone, Debug, Default)]
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

    /// The same memory as other numbers, whose size divides that of a line.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only products of bytes need it"))]
    pub(crate) fn as_others<T: AnyBitPattern>(&self) -> &[T] {
        bytemuck::cast_slice(&self.0)
    }

    pub(crate) fn as_others_mut<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    /// Makes room for so many numbers; never less than there was.
    pub(crate) fn grow(&mut self, numbers: usize) {
        let lines = numbers.div_ceil(16).max(self.0.len());
        self.0.resize(lines, Line([0.0; 16]));
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

/// Runs `$body` with each kind of vectors that this processor has, and the numbers that one holds.
#[cfg(test)]
macro_rules! on_every_kind_of_vectors {
    (|$simd:ident, $lanes:ident| $body:block) => {{
        let ($simd, $lanes) = (Scalar::new(), <Scalar as Simd>::F32_LANES);
        $body
        #[cfg(target_arch = "x86_64")]
        {
            if let Some($simd) = pulp::x86::V3::try_new() {
                let $lanes = <pulp::x86::V3 as Simd>::F32_LANES;
                $body
            }
            if let Some($simd) = pulp::x86::V4::try_new() {
                let $lanes = <pulp::x86::V4 as Simd>::F32_LANES;
                $body
            }
        }
    }};
}
#[cfg(test)]
pub(crate) use on_every_kind_of_vectors;
