//! The weights of a linear layer in int8, packed for the kernel.

use super::constants::{
    GROUP_INPUTS, INPUT_ZERO_POINT, MAX_INPUTS, PANEL_COLUMNS, UNROLL, quantization_scale,
};
use crate::packed_panels::PackedPanels;

/// Quantized weights with one scale for each output. Zeros fill the last panel of every field.
#[derive(Clone, Debug)]
pub(super) struct QuantizedWeights {
    /// Panels of as many outputs as two vectors hold: for each four inputs, four bytes of each
    /// output.
    pub(super) panels: PackedPanels,
    /// `[outputs]`, in 32 bits: the value that each sum begins with. It subtracts the contribution
    /// of [`INPUT_ZERO_POINT`].
    pub(super) compensation: PackedPanels,
    /// `[outputs]`.
    pub(super) scales: PackedPanels,
    /// `[outputs]`.
    pub(super) bias: PackedPanels,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl QuantizedWeights {
    /// Quantizes and packs `weight` `[outputs, inputs]` with `bias` `[outputs]`.
    ///
    /// Returns `None` if a size is 0, the lengths do not match, or `inputs` exceeds [`MAX_INPUTS`].
    pub(super) fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        let outputs = bias.len();
        if inputs == 0 || inputs > MAX_INPUTS || outputs == 0 || weight.len() != inputs * outputs {
            return None;
        }
        let groups = inputs.div_ceil(GROUP_INPUTS).next_multiple_of(UNROLL);
        let padded_outputs = outputs.next_multiple_of(PANEL_COLUMNS);
        let mut weights = Self {
            panels: PackedPanels::zeros(groups * padded_outputs),
            compensation: PackedPanels::zeros(padded_outputs),
            scales: PackedPanels::zeros(padded_outputs),
            bias: PackedPanels::zeros(padded_outputs),
            inputs,
            outputs,
        };
        let per_output = weights.scales.as_f32_mut().iter_mut().zip(weights.bias.as_f32_mut());
        let per_output = weights.compensation.cast_mut().iter_mut().zip(per_output);
        let columns = weight.chunks_exact(inputs).zip(bias).enumerate();
        for ((compensation, (scale, packed_bias)), (index, (column, &bias))) in per_output.zip(columns) {
            *scale = quantization_scale(max_magnitude(column));
            *packed_bias = bias;
            let panels = weights.panels.cast_mut::<[i8; GROUP_INPUTS]>();
            let panel = panels.chunks_exact_mut(groups * PANEL_COLUMNS).skip(index / PANEL_COLUMNS).take(1);
            let lines = panel.flat_map(|panel| panel.chunks_exact_mut(PANEL_COLUMNS));
            let mut sum = 0;
            for (weights, line) in column.chunks(GROUP_INPUTS).zip(lines) {
                let bytes = line.iter_mut().skip(index % PANEL_COLUMNS).take(1).flatten();
                for (byte, weight) in bytes.zip(weights) {
                    *byte = (weight / *scale).round_ties_even() as i8;
                    sum += i32::from(*byte);
                }
            }
            // Intermediate sums may wrap around. The final sum fits into 32 bits.
            *compensation = i32::from(INPUT_ZERO_POINT).wrapping_mul(-sum);
        }
        Some(weights)
    }
}

/// Returns the largest magnitude, or NaN if a value is NaN.
fn max_magnitude(values: &[f32]) -> f32 {
    // Without their signs, floats are in the order of their bits, with NaN above all others.
    f32::from_bits(values.iter().map(|value| value.abs().to_bits()).max().unwrap_or_default())
}
