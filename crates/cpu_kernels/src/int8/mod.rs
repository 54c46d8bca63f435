//! A linear layer in int8: four times the multiplications per cycle of f32, with AVX-512 VNNI.
//!
//! Quantization is symmetric. Weights have one scale for each output. An input row has one scale,
//! computed when the row arrives, so the layer needs no calibration and a row does not depend on
//! other rows.

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(not(target_arch = "x86_64"))]
mod vnni_fallback;
mod quantized_weights;
mod scratch;
mod constants;

pub use scratch::Int8Scratch;

#[cfg(target_arch = "x86_64")]
use vnni::Vnni;
#[cfg(not(target_arch = "x86_64"))]
use vnni_fallback::Vnni;

use self::quantized_weights::QuantizedWeights;
use crate::epilogue::Epilogue;

/// A linear layer in int8: `x W^T + b`, with `x` and `W` rounded to 8 bits.
#[derive(Clone, Debug)]
pub struct CpuInt8Linear {
    vnni: Vnni,
    weights: QuantizedWeights,
}

impl CpuInt8Linear {
    /// Quantizes and packs `weight` `[outputs, inputs]` with `bias` `[outputs]`.
    ///
    /// Returns `None` in each of these cases:
    ///
    /// - The processor lacks AVX-512 VNNI.
    /// - A size is 0, or the lengths do not match.
    /// - There are more than 133,144 inputs, so that sums could overflow.
    #[must_use]
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        Some(Self { vnni: Vnni::try_new()?, weights: QuantizedWeights::new(weight, bias, inputs)? })
    }

    /// Returns whether the processor has AVX-512 VNNI.
    #[must_use]
    pub fn is_supported() -> bool {
        Vnni::try_new().is_some()
    }

    /// Returns the length of an input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.weights.inputs
    }

    /// Returns the length of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.weights.outputs
    }

    /// Computes `out` `[rows, outputs]` from `input` `[rows, inputs]`.
    ///
    /// The number of rows is the smaller one of both slices. An incomplete row is ignored. A row
    /// with a value that is not finite becomes a row of NaN.
    pub fn forward(&self, input: &[f32], out: &mut [f32], epilogue: Epilogue, scratch: &mut Int8Scratch) {
        self.vnni.forward(&self.weights, input, out, epilogue, scratch);
    }
}
