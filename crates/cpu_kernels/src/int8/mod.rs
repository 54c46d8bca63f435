//! A linear layer on 8-bit integers: four times the multiplications a cycle of f32, on processors with the instructions for it.
//!
//! The weight has a step for each output, the input one for each of its rows, found when the row is there: nothing is
//! calibrated, and what a row becomes depends on no other row. Both are even around 0; an input has [`INPUT_ZERO`] added, as the
//! instructions want.
#![cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only products need it, and those are of x86-64")
)]

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(not(target_arch = "x86_64"))]
mod vnni_fallback;

#[cfg(target_arch = "x86_64")]
use vnni::Vnni;
#[cfg(not(target_arch = "x86_64"))]
use vnni_fallback::Vnni;

use crate::{linear::After, packed_panels::Panels};

/// Bytes that are multiplied and added up at once.
pub(crate) const GROUP: usize = 4;

/// Groups of inputs that are taken at a time.
pub(crate) const STEP: usize = 8;

/// Vectors of a panel.
pub(crate) const VECTORS: usize = 2;

/// Columns of a panel.
pub(crate) const WIDTH: usize = VECTORS * 16;

/// The largest number of a row, and of a column, in steps.
const LARGEST: f32 = 127.0;

/// An input's byte that stands for 0.
pub(crate) const INPUT_ZERO: u8 = 128;

/// With more, sums would not fit into 32 bits.
const MAX_INPUTS: usize = i32::MAX as usize / (127 * 127);

/// What 1 stands for in a row or column of which `largest` is the largest number without its sign: NaN, if that is not finite.
#[inline]
pub(crate) fn step_of(largest: f32) -> f32 {
    // A row of zeros would divide by zero.
    if largest.is_finite() { (largest / LARGEST).max(f32::MIN_POSITIVE) } else { f32::NAN }
}

/// `x W^T + b`, with `x` and `W` rounded to 8 bits on the way.
#[derive(Clone, Debug)]
pub struct Int8Linear {
    vnni: Vnni,
    /// One panel after another, each of as many outputs as two vectors hold: for each four inputs, four bytes of each output.
    pub(crate) weight: Panels,
    /// What the sum of each output begins with, in 32 bits: it takes away what [`INPUT_ZERO`] adds.
    pub(crate) starts: Panels,
    /// `[outputs]`, what 1 stands for in each; zeros for the rest of the last panel, here and in the bias.
    pub(crate) steps: Panels,
    pub(crate) bias: Panels,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Int8Linear {
    /// Rounds and lays out `weight` `[outputs, inputs]`, with `bias` `[outputs]`; `None` if this processor lacks the instructions,
    /// if those are not as many numbers as there should be, or if there are so many inputs that sums could overflow (133,144).
    #[must_use]
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        let vnni = Vnni::try_new()?;
        let outputs = bias.len();
        if inputs == 0 || inputs > MAX_INPUTS || outputs == 0 || weight.len() != inputs * outputs {
            return None;
        }
        let groups = inputs.div_ceil(GROUP).next_multiple_of(STEP);
        let padded_outputs = outputs.next_multiple_of(WIDTH);
        let mut layer = Self {
            vnni,
            weight: Panels::zeros(groups * padded_outputs),
            starts: Panels::zeros(padded_outputs),
            steps: Panels::zeros(padded_outputs),
            bias: Panels::zeros(padded_outputs),
            inputs,
            outputs,
        };
        let steps = layer.steps.numbers_mut().iter_mut().zip(layer.bias.numbers_mut());
        let places = layer.starts.as_others_mut().iter_mut().zip(steps);
        let columns = weight.chunks_exact(inputs).zip(bias).enumerate();
        for ((start, (step, place)), (number, (column, &bias))) in places.zip(columns) {
            *step = step_of(largest(column));
            *place = bias;
            let panel = layer.weight.as_others_mut::<[i8; GROUP]>().chunks_exact_mut(groups * WIDTH);
            let lines = panel.skip(number / WIDTH).take(1).flat_map(|panel| panel.chunks_exact_mut(WIDTH));
            let mut sum = 0;
            for (weights, line) in column.chunks(GROUP).zip(lines) {
                let bytes = line.iter_mut().skip(number % WIDTH).take(1).flatten();
                for (byte, weight) in bytes.zip(weights) {
                    *byte = (weight / *step).round_ties_even() as i8;
                    sum += i32::from(*byte);
                }
            }
            // Sums may wrap around on their way: where they end fits.
            *start = i32::from(INPUT_ZERO).wrapping_mul(-sum);
        }
        Some(layer)
    }

    /// Whether this processor has the instructions.
    #[must_use]
    pub fn is_supported() -> bool {
        Vnni::try_new().is_some()
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

    /// `input` `[rows, inputs]` to `out` `[rows, outputs]`; as many rows as both have. A row with something that is no finite number
    /// becomes one of NaN.
    pub fn forward(&self, input: &[f32], out: &mut [f32], after: After, scratch: &mut Int8Scratch) {
        self.vnni.forward(self, input, out, after, scratch);
    }
}

/// The largest number without its sign; what is none is larger than all.
fn largest(numbers: &[f32]) -> f32 {
    f32::from_bits(numbers.iter().map(|number| number.abs().to_bits()).max().unwrap_or_default())
}

/// Room for a call's inputs in bytes; it keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct Int8Scratch {
    rounded: Panels,
    steps: Vec<f32>,
}

impl Int8Scratch {
    /// For so many rows of so many bytes, and a step for each.
    pub(crate) fn room(&mut self, rows: usize, bytes: usize) -> (&mut [u8], &mut [f32]) {
        let all = rows * bytes;
        self.rounded.grow(all.div_ceil(size_of::<f32>()));
        self.steps.resize(rows, 0.0);
        (self.rounded.as_others_mut().get_mut(..all).unwrap_or_default(), &mut self.steps)
    }
}
