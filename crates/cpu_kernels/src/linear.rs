//! A linear layer, its weight laid out in panels once.

use pulp::{Arch, Simd, WithSimd};

use crate::{
    activation::gelu,
    microkernel::{Finish, Panel, panel, runs, tile, with_rows, write_row},
    packed_panels::{Panels, lanes},
};

/// Vectors of a panel.
const VECTORS: usize = 2;

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is written.
    Nothing,
    /// Its exact (erf) GELU is written.
    Gelu,
    /// It is added to what is there.
    Add,
}

impl After {
    /// What is written of `sum`, where `here` is.
    #[inline(always)]
    pub(crate) fn finish<S: Simd>(self, simd: S, sum: S::f32s, here: &[f32]) -> S::f32s {
        match self {
            Self::Nothing => sum,
            Self::Gelu => gelu(simd, sum),
            Self::Add => match S::as_simd_f32s(here).0 {
                [whole] => simd.add_f32s(sum, *whole),
                _ => simd.add_f32s(sum, simd.partial_load_f32s(here)),
            },
        }
    }
}

/// `x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// One panel after another, each of as many outputs as two vectors hold; what is missing in the last is 0.
    panels: Panels,
    /// `[outputs]`, and zeros for the rest of the last panel.
    bias: Panels,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// Lays out `weight` `[outputs, inputs]`, with `bias` `[outputs]`; `None` if those are not as many numbers as there should be.
    #[must_use]
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        Self::for_lanes(weight, bias, inputs, lanes())
    }

    fn for_lanes(weight: &[f32], bias: &[f32], inputs: usize, lanes: usize) -> Option<Self> {
        let outputs = bias.len();
        if inputs == 0 || outputs == 0 || weight.len() != inputs * outputs {
            return None;
        }
        let width = VECTORS * lanes;
        let mut panels = Panels::zeros(outputs.div_ceil(width) * width * inputs);
        let columns = weight.chunks_exact(inputs * width);
        let last = columns.remainder();
        let columns = columns.chain((!last.is_empty()).then_some(last));
        for (columns, panel) in columns.zip(panels.numbers_mut().chunks_exact_mut(inputs * width)) {
            for (place, column) in columns.chunks_exact(inputs).enumerate() {
                for (&weight, line) in column.iter().zip(panel.chunks_exact_mut(width)) {
                    line.iter_mut().skip(place).take(1).for_each(|number| *number = weight);
                }
            }
        }
        let mut padded_bias = Panels::zeros(outputs.next_multiple_of(width));
        for (padded, &bias) in padded_bias.numbers_mut().iter_mut().zip(bias) {
            *padded = bias;
        }
        Some(Self { panels, bias: padded_bias, inputs, outputs })
    }

    /// Numbers of a row that comes in.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers of a row that goes out.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `input` `[rows, inputs]` to `out` `[rows, outputs]`; as many rows as both have.
    pub fn forward(&self, input: &[f32], out: &mut [f32], after: After) {
        Arch::new().dispatch(Forward { linear: self, input, out, after });
    }
}

struct Forward<'a> {
    linear: &'a Linear,
    input: &'a [f32],
    out: &'a mut [f32],
    after: After,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { linear: Linear { panels, bias, inputs, outputs }, input, out, after } = self;
        let width = VECTORS * S::F32_LANES;
        let rows = (input.len() / inputs).min(out.len() / outputs);
        let panels = panels.numbers().chunks_exact(inputs * width);
        for (number, (numbers, bias)) in panels.zip(bias.numbers().chunks_exact(width)).enumerate() {
            let to = Columns { bias, first: number * width, outputs: *outputs, after };
            let numbers = panel::<S, VECTORS>(numbers);
            for (first, run) in runs::<S>(rows) {
                let (Some(input), Some(out)) = (input.get(first * inputs..), out.get_mut(first * outputs..))
                else {
                    return;
                };
                with_rows!(run, write_tile::<S>(simd, input, *inputs, numbers, to, out));
            }
        }
    }
}

/// Where the columns of a panel go.
#[derive(Clone, Copy)]
struct Columns<'a> {
    bias: &'a [f32],
    /// The first of them.
    first: usize,
    /// Numbers of a row.
    outputs: usize,
    after: After,
}

#[inline(always)]
fn write_tile<S: Simd, const ROWS: usize>(
    simd: S,
    input: &[f32],
    inputs: usize,
    panel: &Panel<S, VECTORS>,
    to: Columns<'_>,
    out: &mut [f32],
) {
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (row, numbers) in rows.iter_mut().zip(input.chunks_exact(inputs)) {
        *row = numbers;
    }
    let sums = tile(simd, rows, panel);
    for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(to.outputs)) {
        write_row(simd, sums, out.get_mut(to.first..).unwrap_or_default(), to);
    }
}

impl<S: Simd> Finish<S> for Columns<'_> {
    #[inline(always)]
    fn finish(self, simd: S, number: usize, sum: S::f32s, here: &[f32]) -> S::f32s {
        let Some(&bias) = S::as_simd_f32s(self.bias).0.get(number) else { return sum };
        self.after.finish(simd, simd.add_f32s(sum, bias), here)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::Scalar;

    use super::*;
    use crate::packed_panels::on_every_kind_of_vectors;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| (((index + seed) * 7_919) % 1_009) as f32 / 504.0 - 1.0).collect()
    }

    fn expected(input: &[f32], weight: &[f32], bias: &[f32], inputs: usize) -> Vec<f64> {
        let product = |row: &[f32], column: &[f32]| {
            row.iter().zip(column).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
        };
        let rows = input.chunks(inputs);
        rows.flat_map(|row| {
            weight.chunks(inputs).zip(bias).map(move |(column, &bias)| product(row, column) + f64::from(bias))
        })
        .collect()
    }

    /// The layer's products on each kind of vectors that this processor has.
    fn on_every_kind(
        weight: &[f32],
        bias: &[f32],
        inputs: usize,
        input: &[f32],
        out: &[f32],
        after: After,
    ) -> Vec<Vec<f32>> {
        let mut found = Vec::new();
        on_every_kind_of_vectors!(|simd, lanes| {
            let linear = &Linear::for_lanes(weight, bias, inputs, lanes).unwrap();
            let mut out = out.to_vec();
            Simd::vectorize(simd, Forward { linear, input, out: &mut out, after });
            found.push(out);
        });
        found
    }

    proptest! {
        #[test]
        fn it_gives_the_product_with_its_bias(rows in 1usize..40, inputs in 1usize..150, outputs in 1usize..100) {
            let (input, weight) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
            let (bias, before) = (numbers(outputs, 3), numbers(rows * outputs, 4));
            let expected = expected(&input, &weight, &bias, inputs);
            for found in on_every_kind(&weight, &bias, inputs, &input, &before, After::Nothing) {
                for (found, &expected) in found.into_iter().zip(&expected) {
                    prop_assert!((f64::from(found) - expected).abs() < 1e-4, "{found} for {expected}");
                }
            }
            for found in on_every_kind(&weight, &bias, inputs, &input, &before, After::Add) {
                for ((found, &before), expected) in found.into_iter().zip(&before).zip(&expected) {
                    let expected = expected + f64::from(before);
                    prop_assert!((f64::from(found) - expected).abs() < 1e-4, "{found} for {expected}");
                }
            }
        }

        #[test]
        fn a_row_is_the_same_to_the_bit_in_any_company(rows in 1usize..40, row in 0usize..40, outputs in 1usize..70) {
            let (inputs, row) = (24, row % rows);
            let (input, out) = (numbers(rows * inputs, 4), vec![0.0; rows * outputs]);
            let (weight, bias) = (numbers(outputs * inputs, 5), numbers(outputs, 6));
            let together = on_every_kind(&weight, &bias, inputs, &input, &out, After::Gelu);
            let input = &input[row * inputs..][..inputs];
            let alone = on_every_kind(&weight, &bias, inputs, input, &out[..outputs], After::Gelu);
            for (alone, together) in alone.iter().zip(&together) {
                prop_assert_eq!(&alone[..], &together[row * outputs..][..outputs]);
            }
        }
    }

    #[test]
    fn what_is_no_number_harms_no_other_row() {
        let (inputs, outputs) = (16, 33);
        let linear = Linear::new(&numbers(outputs * inputs, 1), &numbers(outputs, 2), inputs).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut input = numbers(9 * inputs, 3);
            input[4 * inputs + 3] = bad;
            let mut out = vec![0.0; 9 * outputs];
            linear.forward(&input, &mut out, After::Nothing);
            for (row, numbers) in out.chunks(outputs).enumerate() {
                assert_eq!(numbers.iter().all(|number| number.is_finite()), row != 4, "row {row}");
            }
        }
    }

    #[test]
    fn a_layer_of_too_few_or_no_numbers_is_refused() {
        assert!(Linear::new(&[0.0; 15], &[0.0; 2], 8).is_none());
        assert!(Linear::new(&[], &[], 8).is_none());
    }
}
