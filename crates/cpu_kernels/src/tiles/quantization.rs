//! The quantization of int8: symmetric, with one scale for a row or a column.

/// Largest magnitude of a quantized value.
const MAX_QUANTIZED: f32 = 127.0;

/// The byte of a quantized input that stands for 0 in the kernels with unsigned inputs.
pub(crate) const INPUT_ZERO_POINT: u8 = 128;

/// Largest number of inputs (133,144) whose sums fit into 32 bits.
pub(crate) const MAX_INPUTS: usize = i32::MAX as usize / (127 * 127);

/// Returns the quantization scale of a row or column whose largest magnitude is `max`.
///
/// The scale is the value that the integer 1 stands for. It is NaN if `max` is not finite.
#[inline]
pub(crate) fn quantization_scale(max: f32) -> f32 {
    // The lower bound prevents a division by zero for a row of zeros.
    if max.is_finite() { (max / MAX_QUANTIZED).max(f32::MIN_POSITIVE) } else { f32::NAN }
}

/// Returns the largest magnitude, or NaN if a value is NaN.
pub(crate) fn max_magnitude(values: &[f32]) -> f32 {
    // Without their signs, floats are in the order of their bits, with NaN above all others.
    f32::from_bits(values.iter().map(|value| value.abs().to_bits()).max().unwrap_or_default())
}
