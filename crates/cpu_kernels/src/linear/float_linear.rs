//! A linear layer whose products are in f32, with packed weights.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::{
    aligned_numbers::AlignedNumbers,
    bf16_numbers::bf16_pair,
    epilogue::Epilogue,
    microkernel::{OutputOp, as_panel, multiply_tile, row_tiles, with_tile_rows, write_row},
    vector_len::vector_len,
    weight_lines::{Bf16Lines, F32Lines, ReadLine},
};

/// Vectors in a panel.
const PANEL_VECTORS: usize = 2;

/// A linear layer: `x W^T + b`, with products in f32.
#[derive(Clone, Debug)]
pub(super) struct FloatLinear {
    /// Panels of as many outputs as two vectors hold. Zeros fill the last panel.
    weight: AlignedNumbers,
    has_bf16_weights: bool,
    /// `[outputs]`. Zeros fill the last panel.
    bias: AlignedNumbers,
    inputs: usize,
    outputs: usize,
}

impl FloatLinear {
    /// Packs `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    ///
    /// Returns `None` if a size is 0 or the lengths do not match.
    pub(super) fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        Self::for_vector_len(weight, bias, inputs, vector_len())
    }

    /// Packs a layer like [`Self::new`], and keeps the weights in bf16.
    pub(super) fn with_bf16_weights(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        Some(Self::new(weight, bias, inputs)?.into_bf16(vector_len()))
    }

    /// Rounds the weights of a layer in f32.
    fn into_bf16(self, vector_len: usize) -> Self {
        let lines = self.weight.as_slice().chunks_exact(PANEL_VECTORS * vector_len);
        let mut weight = AlignedNumbers::zeros(self.weight.as_slice().len() / PANEL_VECTORS);
        for (line, pairs) in lines.zip(weight.cast_mut::<u32>().chunks_exact_mut(vector_len)) {
            let (lower, upper) = line.split_at(vector_len);
            for ((pair, &lower), &upper) in pairs.iter_mut().zip(lower).zip(upper) {
                *pair = bf16_pair(lower, upper);
            }
        }
        Self { weight, has_bf16_weights: true, ..self }
    }

    fn for_vector_len(weight: &[f32], bias: &[f32], inputs: usize, vector_len: usize) -> Option<Self> {
        let outputs = bias.len();
        if inputs == 0 || outputs == 0 || weight.len() != inputs * outputs {
            return None;
        }
        let width = PANEL_VECTORS * vector_len;
        let mut panels = AlignedNumbers::zeros(outputs.div_ceil(width) * width * inputs);
        let columns = weight.chunks_exact(inputs * width);
        let last = columns.remainder();
        let columns = columns.chain((!last.is_empty()).then_some(last));
        for (columns, panel) in columns.zip(panels.as_mut_slice().chunks_exact_mut(inputs * width)) {
            for (index, column) in columns.chunks_exact(inputs).enumerate() {
                for (&weight, line) in column.iter().zip(panel.chunks_exact_mut(width)) {
                    line.iter_mut().skip(index).take(1).for_each(|packed| *packed = weight);
                }
            }
        }
        let mut padded_bias = AlignedNumbers::zeros(outputs.next_multiple_of(width));
        for (padded, &bias) in padded_bias.as_mut_slice().iter_mut().zip(bias) {
            *padded = bias;
        }
        Some(Self { weight: panels, has_bf16_weights: false, bias: padded_bias, inputs, outputs })
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the number of columns in a panel.
    pub(super) fn panel_columns() -> usize {
        PANEL_VECTORS * vector_len()
    }

    /// Computes the `columns` of the output, see `CpuLinear::forward_columns`.
    pub(super) fn forward_columns(
        &self,
        input: &[f32],
        columns: Range<usize>,
        out: &mut [f32],
        epilogue: Epilogue,
    ) {
        Arch::new().dispatch(LinearKernel { linear: self, input, columns, out, epilogue });
    }
}

struct LinearKernel<'a> {
    linear: &'a FloatLinear,
    input: &'a [f32],
    /// They begin at a panel.
    columns: Range<usize>,
    out: &'a mut [f32],
    epilogue: Epilogue,
}

impl WithSimd for LinearKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FloatLinear { weight, inputs, has_bf16_weights, .. } = self.linear;
        let lines = inputs * S::F32_LANES;
        if *has_bf16_weights {
            let panels = weight.cast::<u32>().chunks_exact(lines);
            self.multiply(simd, panels.map(|panel| S::as_simd_u32s(panel).0), Bf16Lines);
        } else {
            let panels = weight.as_slice().chunks_exact(lines * PANEL_VECTORS);
            self.multiply(simd, panels.map(as_panel::<S, PANEL_VECTORS>), F32Lines);
        }
    }
}

impl LinearKernel<'_> {
    /// Multiplies the input by the columns of `panels`, the panels of the whole layer.
    #[inline(always)]
    fn multiply<'a, S: Simd, R: ReadLine<S, PANEL_VECTORS>>(
        self,
        simd: S,
        panels: impl Iterator<Item = &'a [R::Line]>,
        reader: R,
    ) where
        R::Line: 'a,
    {
        let LinearKernel { linear: FloatLinear { bias, inputs, .. }, input, columns, out, epilogue } = self;
        let (width, outputs) = (PANEL_VECTORS * S::F32_LANES, columns.len());
        let rows = (input.len() / inputs).min(out.len() / outputs);
        let panels = panels.zip(bias.as_slice().chunks_exact(width));
        let panels = panels.skip(columns.start / width).take(outputs.div_ceil(width));
        for (index, (panel, bias)) in panels.enumerate() {
            let columns = PanelColumns { bias, first: index * width, outputs, epilogue };
            for (first, tile_rows) in row_tiles::<S>(rows) {
                let (Some(input), Some(out)) = (input.get(first * inputs..), out.get_mut(first * outputs..))
                else {
                    return;
                };
                with_tile_rows!(
                    tile_rows,
                    write_tile::<S, R>(simd, input, *inputs, (panel, reader), columns, out)
                );
            }
        }
    }
}

/// The output columns of a panel.
#[derive(Clone, Copy)]
struct PanelColumns<'a> {
    bias: &'a [f32],
    /// Index of the first column.
    first: usize,
    /// Length of an output row.
    outputs: usize,
    epilogue: Epilogue,
}

#[inline(always)]
fn write_tile<S: Simd, R: ReadLine<S, PANEL_VECTORS>, const ROWS: usize>(
    simd: S,
    input: &[f32],
    inputs: usize,
    (panel, reader): (&[R::Line], R),
    columns: PanelColumns<'_>,
    out: &mut [f32],
) {
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (row, values) in rows.iter_mut().zip(input.chunks_exact(inputs)) {
        *row = values;
    }
    let sums = multiply_tile(simd, rows, panel, reader);
    for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(columns.outputs)) {
        write_row(simd, sums, out.get_mut(columns.first..).unwrap_or_default(), columns);
    }
}

impl<S: Simd> OutputOp<S> for PanelColumns<'_> {
    #[inline(always)]
    fn apply(self, simd: S, index: usize, sum: S::f32s, current: &[f32]) -> S::f32s {
        let Some(&bias) = S::as_simd_f32s(self.bias).0.get(index) else { return sum };
        self.epilogue.apply(simd, simd.add_f32s(sum, bias), current)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::Scalar;

    use super::*;
    use crate::vector_len::for_each_instruction_set;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| (((index + seed) * 7_919) % 1_009) as f32 / 504.0 - 1.0).collect()
    }

    /// Returns the product in double precision.
    fn reference(input: &[f32], weight: &[f32], bias: &[f32], inputs: usize) -> Vec<f64> {
        let product = |row: &[f32], column: &[f32]| {
            row.iter().zip(column).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
        };
        let rows = input.chunks(inputs);
        rows.flat_map(|row| {
            weight.chunks(inputs).zip(bias).map(move |(column, &bias)| product(row, column) + f64::from(bias))
        })
        .collect()
    }

    /// Returns the number that bf16 keeps of `number`.
    fn as_bf16(number: f32) -> f32 {
        f32::from_bits(bf16_pair(0.0, number))
    }

    /// Returns the layer's output for each instruction set that this processor supports.
    fn forward_on_each(
        weight: &[f32],
        bias: &[f32],
        inputs: usize,
        input: &[f32],
        out: &[f32],
        epilogue: Epilogue,
    ) -> Vec<Vec<f32>> {
        let mut outputs = Vec::new();
        for_each_instruction_set!(|simd, vector_len| {
            let linear = &FloatLinear::for_vector_len(weight, bias, inputs, vector_len).unwrap();
            let mut out = out.to_vec();
            let kernel = LinearKernel { linear, input, columns: 0..linear.outputs, out: &mut out, epilogue };
            Simd::vectorize(simd, kernel);
            outputs.push(out);
        });
        outputs
    }

    proptest! {
        #[test]
        fn products_match_double_precision(
            rows in 1usize..40,
            inputs in 1usize..150,
            outputs in 1usize..100,
        ) {
            let (input, weight) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
            let (bias, before) = (numbers(outputs, 3), numbers(rows * outputs, 4));
            let expected = reference(&input, &weight, &bias, inputs);
            for actual in forward_on_each(&weight, &bias, inputs, &input, &before, Epilogue::Store) {
                for (actual, &expected) in actual.into_iter().zip(&expected) {
                    prop_assert!((f64::from(actual) - expected).abs() < 1e-4, "{actual} for {expected}");
                }
            }
            for actual in forward_on_each(&weight, &bias, inputs, &input, &before, Epilogue::Add) {
                for ((actual, &before), expected) in actual.into_iter().zip(&before).zip(&expected) {
                    let expected = expected + f64::from(before);
                    prop_assert!((f64::from(actual) - expected).abs() < 1e-4, "{actual} for {expected}");
                }
            }
        }

        #[test]
        fn batched_row_is_bit_identical_to_single_row(
            rows in 1usize..40,
            row in 0usize..40,
            outputs in 1usize..70,
        ) {
            let (inputs, row) = (24, row % rows);
            let (input, out) = (numbers(rows * inputs, 4), vec![0.0; rows * outputs]);
            let (weight, bias) = (numbers(outputs * inputs, 5), numbers(outputs, 6));
            let batched = forward_on_each(&weight, &bias, inputs, &input, &out, Epilogue::Gelu);
            let input = &input[row * inputs..][..inputs];
            let single = forward_on_each(&weight, &bias, inputs, input, &out[..outputs], Epilogue::Gelu);
            for (single, batched) in single.iter().zip(&batched) {
                prop_assert_eq!(&single[..], &batched[row * outputs..][..outputs]);
            }
        }
    }

    proptest! {
        #[test]
        fn bf16_weights_give_the_result_of_rounded_f32_weights(
            rows in 1usize..20,
            inputs in 1usize..50,
            outputs in 1usize..100,
        ) {
            let (input, weight) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
            let bias = numbers(outputs, 3);
            let rounded: Vec<f32> = weight.iter().map(|&weight| as_bf16(weight)).collect();
            for_each_instruction_set!(|simd, vector_len| {
                let layer =
                    |weight| FloatLinear::for_vector_len(weight, &bias, inputs, vector_len).unwrap();
                let [narrow, wide] = [layer(&weight).into_bf16(vector_len), layer(&rounded)].map(|linear| {
                    let mut out = numbers(rows * outputs, 4);
                    let (linear, input, columns) = (&linear, &input[..], 0..outputs);
                    let kernel =
                        LinearKernel { linear, input, columns, out: &mut out, epilogue: Epilogue::Add };
                    Simd::vectorize(simd, kernel);
                    out
                });
                prop_assert_eq!(narrow, wide);
            });
        }
    }

    #[test]
    fn non_finite_input_affects_only_its_row() {
        let (inputs, outputs) = (16, 33);
        let linear = FloatLinear::new(&numbers(outputs * inputs, 1), &numbers(outputs, 2), inputs).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut input = numbers(9 * inputs, 3);
            input[4 * inputs + 3] = bad;
            let mut out = vec![0.0; 9 * outputs];
            linear.forward_columns(&input, 0..outputs, &mut out, Epilogue::Store);
            for (row, values) in out.chunks(outputs).enumerate() {
                assert_eq!(values.iter().all(|value| value.is_finite()), row != 4, "row {row}");
            }
        }
    }

    #[test]
    fn weights_of_wrong_length_are_rejected() {
        assert!(FloatLinear::new(&[0.0; 15], &[0.0; 2], 8).is_none());
        assert!(FloatLinear::new(&[], &[], 8).is_none());
    }
}
