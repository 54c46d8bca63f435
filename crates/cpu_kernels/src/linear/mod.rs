//! Linear layers in any number format.

#[cfg(test)]
mod tests;
mod float_linear;
pub(crate) mod layer_input;
mod tile_linear;
pub(crate) mod number_format;

use std::ops::Range;

use self::{
    float_linear::FloatLinear, layer_input::LayerInput, number_format::NumberFormat, tile_linear::TileLinear,
};
use crate::{
    bf16_numbers::to_bf16,
    epilogue::Epilogue,
    layer_norm::CpuLayerNorm,
    tiles::{
        kernel::{Bf16Kernel, TileKernel},
        layout::PANEL_COLUMNS,
    },
};

/// A linear layer: `x W^T + b`.
#[derive(Clone, Debug)]
pub struct CpuLinear(Weights);

#[derive(Clone, Debug)]
enum Weights {
    /// Products are in f32.
    Float(FloatLinear),
    /// Products are in bf16 or int8.
    Tiles(TileLinear),
}

impl CpuLinear {
    /// Packs `weight` `[outputs, inputs]` and `bias` `[outputs]` in f32.
    ///
    /// Returns `None` if a size is 0 or the lengths do not match.
    #[must_use]
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        Self::with_format(weight, bias, inputs, NumberFormat::F32)
    }

    /// Packs a layer like [`Self::new`], in another number format.
    ///
    /// Returns `None` also in each of these cases:
    ///
    /// - The processor does not support `format`, see [`NumberFormat::is_supported`].
    /// - Integer sums of more than 133,144 inputs could overflow.
    #[must_use]
    pub fn with_format(weight: &[f32], bias: &[f32], inputs: usize, format: NumberFormat) -> Option<Self> {
        let kernel = format.tile_format().and_then(TileKernel::new);
        Some(Self(match (format, kernel) {
            (_, Some(kernel)) => Weights::Tiles(TileLinear::new(kernel, weight, bias, inputs)?),
            (NumberFormat::Int8, None) => return None,
            (NumberFormat::F32, None) => Weights::Float(FloatLinear::new(weight, bias, inputs)?),
            (NumberFormat::Bf16, None) => {
                Weights::Float(FloatLinear::with_bf16_weights(weight, bias, inputs)?)
            }
        }))
    }

    /// Returns the length of an input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        match &self.0 {
            Weights::Float(linear) => linear.inputs(),
            Weights::Tiles(linear) => linear.inputs(),
        }
    }

    /// Returns the length of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.0 {
            Weights::Float(linear) => linear.outputs(),
            Weights::Tiles(linear) => linear.outputs(),
        }
    }

    /// Computes `out` `[rows, outputs]` from `input` `[rows, inputs]`.
    ///
    /// The number of rows is the smaller one of both slices. An incomplete row is ignored. In int8,
    /// a row with a value that is not finite becomes a row of NaN.
    pub fn forward(&self, input: &[f32], out: &mut [f32], epilogue: Epilogue) {
        self.forward_columns(input, 0..self.outputs(), out, epilogue);
    }

    /// Computes the `columns` of [`Self::forward`], as `out` `[rows, columns]`.
    ///
    /// `columns` is one of [`Self::column_blocks`], or all.
    pub fn forward_columns(&self, input: &[f32], columns: Range<usize>, out: &mut [f32], epilogue: Epilogue) {
        if columns.is_empty() {
            return;
        }
        match &self.0 {
            Weights::Float(linear) => linear.forward_columns(input, columns, out, epilogue),
            Weights::Tiles(linear) => linear.forward_columns(input, columns, out, epilogue),
        }
    }

    /// Writes the norms of `states` `[rows, inputs]` as input of this layer.
    pub fn norm_input(&self, norm: &CpuLayerNorm, states: &[f32], input: &mut LayerInput) {
        let LayerInput { numbers, rounded } = input;
        match &self.0 {
            Weights::Float(_) => {
                numbers.resize(states.len(), 0.0);
                norm.forward(states, numbers);
            }
            Weights::Tiles(linear) => {
                linear.round_norm(norm, states, states.len() / linear.inputs(), numbers, rounded);
            }
        }
    }

    /// Writes `rows` `[rows, inputs]` as input of this layer.
    pub fn read_input(&self, rows: &[f32], input: &mut LayerInput) {
        match &self.0 {
            Weights::Float(_) => {
                input.numbers.clear();
                input.numbers.extend_from_slice(rows);
            }
            Weights::Tiles(linear) => {
                linear.round(rows, rows.len() / linear.inputs(), &mut input.rounded);
            }
        }
    }

    /// Computes [`Self::forward`] for an input of this layer.
    pub fn forward_input(&self, input: &LayerInput, out: &mut [f32], epilogue: Epilogue) {
        self.forward_input_columns(input, 0..self.outputs(), out, epilogue);
    }

    /// Computes [`Self::forward_columns`] for an input of this layer.
    pub fn forward_input_columns(
        &self,
        input: &LayerInput,
        columns: Range<usize>,
        out: &mut [f32],
        epilogue: Epilogue,
    ) {
        match &self.0 {
            Weights::Float(linear) => linear.forward_columns(&input.numbers, columns, out, epilogue),
            Weights::Tiles(linear) => linear.forward_rounded(&input.rounded, columns, out, epilogue),
        }
    }

    /// Computes [`Self::forward`] for an input of this layer, rounded to rows of `stride` numbers.
    pub(crate) fn forward_to_bf16(
        &self,
        input: &LayerInput,
        kernel: Bf16Kernel,
        out: &mut [u16],
        stride: usize,
    ) {
        match &self.0 {
            Weights::Tiles(linear) => linear.forward_to_bf16(&input.rounded, kernel, out, stride),
            // No model has this combination.
            Weights::Float(linear) => {
                let mut numbers = vec![0.0; input.numbers.len() / linear.inputs() * linear.outputs()];
                self.forward_input(input, &mut numbers, Epilogue::Store);
                for (row, out) in numbers.chunks(linear.outputs()).zip(out.chunks_mut(stride)) {
                    for (number, out) in row.iter().zip(out) {
                        *out = to_bf16(*number);
                    }
                }
            }
        }
    }

    /// Computes the layer and the GELU of its output, as `out`, the input of the layer `next`.
    pub fn forward_gelu(&self, input: &LayerInput, next: &Self, out: &mut LayerInput) {
        let rows = match (&self.0, &next.0) {
            (Weights::Float(linear), _) => input.numbers.len() / linear.inputs(),
            (Weights::Tiles(linear), Weights::Tiles(next)) => {
                if linear.forward_to_rounded(&input.rounded, Epilogue::Gelu, next, &mut out.rounded) {
                    return;
                }
                input.rounded.len()
            }
            (Weights::Tiles(_), Weights::Float(_)) => input.rounded.len(),
        };
        out.numbers.resize(rows * self.outputs(), 0.0);
        self.forward_input(input, &mut out.numbers, Epilogue::Gelu);
        if let Weights::Tiles(next) = &next.0 {
            next.round(&out.numbers, rows, &mut out.rounded);
        }
    }

    /// Cuts the output columns into at most `count` adjacent blocks of nearly equal size.
    ///
    /// Each begins at a panel, so that the blocks read separate weights.
    pub fn column_blocks(&self, count: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let width = match &self.0 {
            Weights::Float(_) => FloatLinear::panel_columns(),
            Weights::Tiles(_) => PANEL_COLUMNS,
        };
        let outputs = self.outputs();
        let panels = outputs.div_ceil(width);
        let count = count.clamp(1, panels);
        let first = move |block: usize| (block * panels / count * width).min(outputs);
        (0..count).map(move |block| first(block)..first(block + 1))
    }
}
