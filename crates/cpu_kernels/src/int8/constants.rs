//! The constants of int8 quantization and of the packed int8 layout.

/// Inputs that one instruction multiplies and adds up for each column.
pub(super) const GROUP_INPUTS: usize = 4;

/// Groups of inputs that the loop multiplies in one iteration.
pub(super) const UNROLL: usize = 8;

/// Vectors in a panel.
pub(super) const PANEL_VECTORS: usize = 2;

/// Columns in a panel.
pub(super) const PANEL_COLUMNS: usize = PANEL_VECTORS * 16;

/// Largest magnitude of a quantized value.
const MAX_QUANTIZED: f32 = 127.0;

/// The byte of a quantized input that stands for 0. The instruction requires unsigned inputs.
pub(super) const INPUT_ZERO_POINT: u8 = 128;

/// Largest number of inputs (133,144) whose sums fit into 32 bits.
pub(super) const MAX_INPUTS: usize = i32::MAX as usize / (127 * 127);

/// Returns the quantization scale of a row or column whose largest magnitude is `max`.
///
/// The scale is the value that the integer 1 stands for. It is NaN if `max` is not finite.
#[inline]
pub(super) fn quantization_scale(max: f32) -> f32 {
    // The lower bound prevents a division by zero for a row of zeros.
    if max.is_finite() { (max / MAX_QUANTIZED).max(f32::MIN_POSITIVE) } else { f32::NAN }
}
