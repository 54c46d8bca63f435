//! A linear layer in f32 with packed weights.

use pulp::{Arch, Simd, WithSimd};

use crate::{
    epilogue::Epilogue,
    microkernel::{OutputOp, Panel, as_panel, multiply_tile, row_tiles, with_tile_rows, write_row},
    packed_panels::PackedPanels,
    vector_len::vector_len,
};

/// Vectors in a panel.
const PANEL_VECTORS: usize = 2;

/// A linear layer in f32: `x W^T + b`.
#[derive(Clone, Debug)]
pub struct CpuLinear {
    /// Panels of as many outputs as two vectors hold. Zeros fill the last panel.
    weight: PackedPanels,
    /// `[outputs]`. Zeros fill the last panel.
    bias: PackedPanels,
    inputs: usize,
    outputs: usize,
}

impl CpuLinear {
    /// Packs `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    ///
    /// Returns `None` if a size is 0 or the lengths do not match.
    #[must_use]
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        Self::for_vector_len(weight, bias, inputs, vector_len())
    }

    fn for_vector_len(weight: &[f32], bias: &[f32], inputs: usize, vector_len: usize) -> Option<Self> {
        let outputs = bias.len();
        if inputs == 0 || outputs == 0 || weight.len() != inputs * outputs {
            return None;
        }
        let width = PANEL_VECTORS * vector_len;
        let mut panels = PackedPanels::zeros(outputs.div_ceil(width) * width * inputs);
        let columns = weight.chunks_exact(inputs * width);
        let last = columns.remainder();
        let columns = columns.chain((!last.is_empty()).then_some(last));
        for (columns, panel) in columns.zip(panels.as_f32_mut().chunks_exact_mut(inputs * width)) {
            for (index, column) in columns.chunks_exact(inputs).enumerate() {
                for (&weight, line) in column.iter().zip(panel.chunks_exact_mut(width)) {
                    line.iter_mut().skip(index).take(1).for_each(|packed| *packed = weight);
                }
            }
        }
        let mut padded_bias = PackedPanels::zeros(outputs.next_multiple_of(width));
        for (padded, &bias) in padded_bias.as_f32_mut().iter_mut().zip(bias) {
            *padded = bias;
        }
        Some(Self { weight: panels, bias: padded_bias, inputs, outputs })
    }

    /// Returns the length of an input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the length of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Computes `out` `[rows, outputs]` from `input` `[rows, inputs]`.
    ///
    /// The number of rows is the smaller one of both slices. An incomplete row is ignored.
    pub fn forward(&self, input: &[f32], out: &mut [f32], epilogue: Epilogue) {
        Arch::new().dispatch(LinearKernel { linear: self, input, out, epilogue });
    }
}

struct LinearKernel<'a> {
    linear: &'a CpuLinear,
    input: &'a [f32],
    out: &'a mut [f32],
    epilogue: Epilogue,
}

impl WithSimd for LinearKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let LinearKernel { linear: CpuLinear { weight, bias, inputs, outputs }, input, out, epilogue } = self;
        let width = PANEL_VECTORS * S::F32_LANES;
        let rows = (input.len() / inputs).min(out.len() / outputs);
        let panels = weight.as_f32().chunks_exact(inputs * width);
        for (index, (panel, bias)) in panels.zip(bias.as_f32().chunks_exact(width)).enumerate() {
            let columns = PanelColumns { bias, first: index * width, outputs: *outputs, epilogue };
            let panel = as_panel::<S, PANEL_VECTORS>(panel);
            for (first, tile_rows) in row_tiles::<S>(rows) {
                let (Some(input), Some(out)) = (input.get(first * inputs..), out.get_mut(first * outputs..))
                else {
                    return;
                };
                with_tile_rows!(tile_rows, write_tile::<S>(simd, input, *inputs, panel, columns, out));
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
fn write_tile<S: Simd, const ROWS: usize>(
    simd: S,
    input: &[f32],
    inputs: usize,
    panel: &Panel<S, PANEL_VECTORS>,
    columns: PanelColumns<'_>,
    out: &mut [f32],
) {
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (row, values) in rows.iter_mut().zip(input.chunks_exact(inputs)) {
        *row = values;
    }
    let sums = multiply_tile(simd, rows, panel);
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
            let linear = &CpuLinear::for_vector_len(weight, bias, inputs, vector_len).unwrap();
            let mut out = out.to_vec();
            Simd::vectorize(simd, LinearKernel { linear, input, out: &mut out, epilogue });
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

    #[test]
    fn non_finite_input_affects_only_its_row() {
        let (inputs, outputs) = (16, 33);
        let linear = CpuLinear::new(&numbers(outputs * inputs, 1), &numbers(outputs, 2), inputs).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut input = numbers(9 * inputs, 3);
            input[4 * inputs + 3] = bad;
            let mut out = vec![0.0; 9 * outputs];
            linear.forward(&input, &mut out, Epilogue::Store);
            for (row, values) in out.chunks(outputs).enumerate() {
                assert_eq!(values.iter().all(|value| value.is_finite()), row != 4, "row {row}");
            }
        }
    }

    #[test]
    fn weights_of_wrong_length_are_rejected() {
        assert!(CpuLinear::new(&[0.0; 15], &[0.0; 2], 8).is_none());
        assert!(CpuLinear::new(&[], &[], 8).is_none());
    }
}
