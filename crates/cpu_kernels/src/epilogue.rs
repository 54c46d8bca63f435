//! The last step of a product, applied before it is written.

use pulp::Simd;

use crate::activation::gelu;

/// What a linear layer does with a product and its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Writes it to the output.
    Store,
    /// Writes its exact (erf) GELU to the output.
    Gelu,
    /// Adds it to the output, as a residual connection does.
    Add,
}

impl Epilogue {
    /// Returns the value to write for `sum`. `current` holds the present values of the output.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, sum: S::f32s, current: &[f32]) -> S::f32s {
        match self {
            Self::Store => sum,
            Self::Gelu => gelu(simd, sum),
            Self::Add => match S::as_simd_f32s(current).0 {
                [vector] => simd.add_f32s(sum, *vector),
                _ => simd.add_f32s(sum, simd.partial_load_f32s(current)),
            },
        }
    }
}
