//! How a product in f32 reads its weights.

use pulp::Simd;

/// Reads a line of a panel: the weights of one input for `VECTORS` vectors of columns.
pub(crate) trait ReadLine<S: Simd, const VECTORS: usize>: Copy {
    /// A line in memory.
    type Line: Copy;

    /// Returns the weights of a line.
    fn read(self, simd: S, line: Self::Line) -> [S::f32s; VECTORS];
}

/// Lines of f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32Lines;

/// Lines of bf16. Each 32-bit number has the weights of a column of the first vector (lower half)
/// and of the second one (upper half).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16Lines;

impl<S: Simd, const VECTORS: usize> ReadLine<S, VECTORS> for F32Lines {
    type Line = [S::f32s; VECTORS];

    #[inline(always)]
    fn read(self, _: S, line: Self::Line) -> [S::f32s; VECTORS] {
        line
    }
}

impl<S: Simd> ReadLine<S, 2> for Bf16Lines {
    type Line = S::u32s;

    #[inline(always)]
    fn read(self, simd: S, line: S::u32s) -> [S::f32s; 2] {
        let lower = simd.wrapping_dyn_shl_u32s(line, simd.splat_u32s(16));
        let upper = simd.and_u32s(line, simd.splat_u32s(0xFFFF_0000));
        [simd.transmute_f32s_u32s(lower), simd.transmute_f32s_u32s(upper)]
    }
}
