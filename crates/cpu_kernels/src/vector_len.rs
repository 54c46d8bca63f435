//! The length of the processor's vectors.

use pulp::{Arch, Simd, WithSimd};

/// Returns the number of `f32` values in a vector of the instruction set that `pulp` selects.
pub(crate) fn vector_len() -> usize {
    struct VectorLen;
    impl WithSimd for VectorLen {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(VectorLen)
}

/// Runs `$body` once for each instruction set that this processor supports, with its vector length.
#[cfg(test)]
macro_rules! for_each_instruction_set {
    (|$simd:ident, $vector_len:ident| $body:block) => {{
        let ($simd, $vector_len) = (Scalar::new(), <Scalar as Simd>::F32_LANES);
        $body
        #[cfg(target_arch = "x86_64")]
        {
            if let Some($simd) = pulp::x86::V3::try_new() {
                let $vector_len = <pulp::x86::V3 as Simd>::F32_LANES;
                $body
            }
            if let Some($simd) = pulp::x86::V4::try_new() {
                let $vector_len = <pulp::x86::V4 as Simd>::F32_LANES;
                $body
            }
        }
    }};
}
#[cfg(test)]
pub(crate) use for_each_instruction_set;
