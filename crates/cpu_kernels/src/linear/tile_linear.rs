//! A linear layer whose inputs and weights are rounded to bf16 or int8.
//!
//! Quantization to int8 is symmetric. Weights have one scale for each output. An input row has one
//! scale, computed when the row arrives, so the layer needs no calibration and a row does not
//! depend on other rows.

use std::ops::Range;

use bytemuck::{must_cast, must_cast_mut, must_cast_ref};
use pulp::{Simd, WithSimd};

use crate::{
    aligned_numbers::AlignedNumbers,
    bf16_numbers::bf16_pair,
    epilogue::Epilogue,
    layer_norm::CpuLayerNorm,
    microkernel::{OutputOp, write_columns},
    prefetch::prefetch_for_writing,
    tiles::{
        kernel::{Bf16Kernel, TileKernel},
        layout::{
            LINE_GROUPS, Line, MatrixPart, PANEL_COLUMNS, PanelTile, Sums, TILE_ROWS, Tile, TileFormat,
        },
        quantization::{MAX_INPUTS, max_magnitude, quantization_scale},
        rounded_rows::RoundedRows,
    },
};

/// A linear layer: `x W^T + b`, with `x` and `W` rounded. Zeros fill the last panel of every field.
#[derive(Clone, Debug)]
pub(super) struct TileLinear {
    kernel: TileKernel,
    /// For each panel the tiles of its inputs.
    panels: AlignedNumbers,
    /// `[outputs]`, in 32 bits: the value that each integer sum begins with. It subtracts the
    /// contribution of the inputs' zero point.
    compensation: AlignedNumbers,
    /// `[outputs]`: what the integer 1 stands for, and 1 for bf16.
    scales: AlignedNumbers,
    /// `[outputs]`.
    bias: AlignedNumbers,
    inputs: usize,
    outputs: usize,
}

impl TileLinear {
    /// Rounds and packs `weight` `[outputs, inputs]` with `bias` `[outputs]`.
    ///
    /// Returns `None` if a size is 0, the lengths do not match, or integer sums of so many inputs
    /// could overflow.
    pub(super) fn new(kernel: TileKernel, weight: &[f32], bias: &[f32], inputs: usize) -> Option<Self> {
        let (outputs, format) = (bias.len(), kernel.format());
        let max_inputs = if format == TileFormat::Int8 { MAX_INPUTS } else { usize::MAX };
        if inputs == 0 || inputs > max_inputs || outputs == 0 || weight.len() != inputs * outputs {
            return None;
        }
        let lines = format.lines(inputs);
        let padded_outputs = outputs.next_multiple_of(PANEL_COLUMNS);
        let mut linear = Self {
            kernel,
            panels: AlignedNumbers::zeros(padded_outputs * lines * LINE_GROUPS),
            compensation: AlignedNumbers::zeros(padded_outputs),
            scales: AlignedNumbers::zeros(padded_outputs),
            bias: AlignedNumbers::zeros(padded_outputs),
            inputs,
            outputs,
        };
        let per_output = linear.scales.as_mut_slice().iter_mut().zip(linear.bias.as_mut_slice());
        let per_output = linear.compensation.cast_mut().iter_mut().zip(per_output);
        let mut panels = linear.panels.cast_mut::<PanelTile>().chunks_exact_mut(lines);
        let mut panel: &mut [PanelTile] = &mut [];
        for ((compensation, (scale, packed_bias)), (index, (column, &bias))) in
            per_output.zip(weight.chunks_exact(inputs).zip(bias).enumerate())
        {
            let place = index % PANEL_COLUMNS;
            if place == 0 {
                panel = panels.next().unwrap_or_default();
            }
            *packed_bias = bias;
            let groups = panel.iter_mut().flatten();
            let groups = groups
                .filter_map(|vectors| vectors.get_mut(place / LINE_GROUPS)?.get_mut(place % LINE_GROUPS));
            match format {
                TileFormat::Bf16 => {
                    *scale = 1.0;
                    for (group, pair) in groups.zip(column.chunks(2)) {
                        let at = |index| pair.get(index).copied().unwrap_or(0.0);
                        *group = bf16_pair(at(0), at(1));
                    }
                }
                TileFormat::Int8 => {
                    *scale = quantization_scale(max_magnitude(column));
                    let sum = quantize(groups, column, *scale);
                    // Intermediate sums may wrap around. The final sum fits into 32 bits.
                    *compensation = kernel.input_zero_point().wrapping_mul(-sum);
                }
            }
        }
        Some(linear)
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Computes the `columns` of the output, see `CpuLinear::forward_columns`.
    pub(super) fn forward_columns(
        &self,
        input: &[f32],
        columns: Range<usize>,
        out: &mut [f32],
        epilogue: Epilogue,
    ) {
        let rows = (input.len() / self.inputs).min(out.len() / columns.len().max(1));
        let mut rounded = RoundedRows::reused();
        self.round(input, rows, &mut rounded);
        self.multiply(&rounded, columns, Output::Numbers(out), epilogue);
        rounded.give_back();
    }

    /// Rounds the first `rows` rows of `input` `[rows, inputs]`.
    pub(super) fn round(&self, input: &[f32], rows: usize, rounded: &mut RoundedRows) {
        rounded.round(self.kernel, input.chunks_exact(self.inputs), rows, self.inputs);
    }

    /// Rounds the norms of the first `rows` rows of `states` `[rows, inputs]`.
    pub(super) fn round_norm(
        &self,
        norm: &CpuLayerNorm,
        states: &[f32],
        rows: usize,
        normed: &mut Vec<f32>,
        rounded: &mut RoundedRows,
    ) {
        normed.resize(self.inputs, 0.0);
        let lines = self.kernel.row_lines(self.inputs);
        rounded.fill(states.chunks_exact(self.inputs), rows, lines, |row, lines| {
            norm.forward(row, normed);
            self.kernel.round(normed, lines)
        });
    }

    /// Computes the `columns` of the output of rounded rows.
    pub(super) fn forward_rounded(
        &self,
        rows: &RoundedRows,
        columns: Range<usize>,
        out: &mut [f32],
        epilogue: Epilogue,
    ) {
        self.multiply(rows, columns, Output::Numbers(out), epilogue);
    }

    /// Computes the output of rounded rows, rounded to bf16 for a layer that reads this format.
    ///
    /// Returns whether this is possible. `epilogue` does not read the output.
    pub(super) fn forward_to_rounded(
        &self,
        rows: &RoundedRows,
        epilogue: Epilogue,
        next: &Self,
        out: &mut RoundedRows,
    ) -> bool {
        let (Some(_), Some(kernel)) = (self.kernel.as_bf16(), next.kernel.as_bf16()) else { return false };
        if self.outputs != next.inputs {
            return false;
        }
        let lines = TileFormat::Bf16.lines(self.outputs);
        let tiles = out.begin_bf16(rows.len(), lines);
        self.multiply(rows, 0..self.outputs, Output::Lines(kernel, tiles, lines), epilogue);
        true
    }

    /// Computes the output of rounded rows as rows of `stride` numbers in bf16.
    pub(super) fn forward_to_bf16(
        &self,
        rows: &RoundedRows,
        kernel: Bf16Kernel,
        out: &mut [u16],
        stride: usize,
    ) {
        self.multiply(rows, 0..self.outputs, Output::Bf16(kernel, out, stride), Epilogue::Store);
    }

    fn multiply(&self, rows: &RoundedRows, columns: Range<usize>, out: Output<'_>, epilogue: Epilogue) {
        self.kernel.vectorize(TileProduct { linear: self, rows, columns, out, epilogue });
    }
}

/// Where the results of a product go.
enum Output<'a> {
    /// `[rows, columns]`.
    Numbers(&'a mut [f32]),
    /// `[rows, columns]`, rounded to bf16, without an epilogue. The last number is the distance
    /// between two rows.
    Bf16(Bf16Kernel, &'a mut [u16], usize),
    /// Rounded to bf16, with the number of lines of a row.
    Lines(Bf16Kernel, &'a mut [Tile], usize),
}

/// Writes the integers of a column to its `groups` and returns their sum.
fn quantize<'a>(groups: impl Iterator<Item = &'a mut u32>, column: &[f32], scale: f32) -> i32 {
    let mut sum = 0;
    for (group, weights) in groups.zip(column.chunks(TileFormat::Int8.group_inputs())) {
        let mut bytes = [0; TileFormat::Int8.group_inputs()];
        for (byte, weight) in bytes.iter_mut().zip(weights) {
            *byte = (weight / scale).round_ties_even() as i8;
            sum += i32::from(*byte);
        }
        *group = must_cast(bytes);
    }
    sum
}

struct TileProduct<'a> {
    linear: &'a TileLinear,
    rows: &'a RoundedRows,
    /// They begin at a panel.
    columns: Range<usize>,
    out: Output<'a>,
    epilogue: Epilogue,
}

impl WithSimd for TileProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { linear, rows, columns, mut out, epilogue } = self;
        let kernel = linear.kernel.prepare();
        let (lines, outputs) = (linear.kernel.format().lines(linear.inputs), columns.len());
        let panels: Vec<_> = linear.panels.cast::<PanelTile>().chunks_exact(lines).collect();
        let of_columns = columns.start / PANEL_COLUMNS..columns.end.div_ceil(PANEL_COLUMNS);
        let panels = panels.get(of_columns.clone()).unwrap_or_default();
        let compensation = linear.compensation.cast::<[Line; 2]>().iter();
        let scales = linear.scales.as_slice().as_chunks::<PANEL_COLUMNS>().0.iter();
        let per_panel = scales.zip(linear.bias.as_slice().as_chunks::<PANEL_COLUMNS>().0);
        let per_panel = compensation.zip(per_panel).skip(of_columns.start);
        let mut sums = Sums::default();
        let mut first_of_group = 0;
        for blocks in rows.groups_of_blocks() {
            for (index, (panel, (compensation, (scales, bias)))) in
                panels.iter().zip(per_panel.clone()).enumerate()
            {
                let next = panels.get(index + 1).copied().unwrap_or_default();
                let mut of_next = next.chunks(lines.div_ceil(blocks.len()).max(1));
                let mut first = first_of_group;
                for block in blocks.clone() {
                    let rows = block.scales.len();
                    let next = of_next.next().unwrap_or_default();
                    // Otherwise the results of a block would wait for the cache, all at once.
                    match &out {
                        Output::Numbers(out) => {
                            let out = out.get(first * outputs + index * PANEL_COLUMNS..).unwrap_or_default();
                            prefetch_for_writing(out.chunks(outputs).take(rows));
                        }
                        Output::Bf16(_, out, stride) => {
                            let out = out.get(first * stride + index * PANEL_COLUMNS..).unwrap_or_default();
                            prefetch_for_writing(out.chunks(*stride).take(rows));
                        }
                        Output::Lines(..) => {}
                    }
                    kernel.multiply(block.tiles, rows, panel, compensation, next, &mut sums);
                    let columns = PanelOutput { scales, bias, epilogue, index };
                    match &mut out {
                        Output::Numbers(out) => {
                            let out = out.get_mut(first * outputs..).unwrap_or_default();
                            columns.write(simd, &sums, block.scales, out, outputs);
                        }
                        Output::Bf16(kernel, out, stride) => {
                            let numbers = out.get_mut(first * *stride..).unwrap_or_default();
                            let first_column = index * PANEL_COLUMNS;
                            let part = MatrixPart { numbers, stride: *stride, first_column };
                            kernel.finish_rows(&sums.0, block.scales, scales, bias, part);
                        }
                        Output::Lines(kernel, tiles, lines) => {
                            let tiles = tiles.get_mut(first / TILE_ROWS * *lines..).unwrap_or_default();
                            columns.round(simd, *kernel, &mut sums, block.scales, tiles, *lines);
                        }
                    }
                    first += rows;
                }
            }
            first_of_group += blocks.map(|block| block.scales.len()).sum::<usize>();
        }
    }
}

/// The columns of a panel, whose sums become results.
struct PanelOutput<'a> {
    /// The scale of each column.
    scales: &'a [f32],
    bias: &'a [f32],
    epilogue: Epilogue,
    /// Index of the panel among those of the output.
    index: usize,
}

impl PanelOutput<'_> {
    /// Writes the results of a block to `out` `[rows, outputs]`.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, sums: &Sums, row_scales: &[f32], out: &mut [f32], outputs: usize) {
        let &Self { scales, bias, epilogue, index } = self;
        for ((sums, &row_scale), out) in sums.0.iter().zip(row_scales).zip(out.chunks_exact_mut(outputs)) {
            let out = out.get_mut(index * PANEL_COLUMNS..).unwrap_or_default();
            let finish = Finish { scales, bias, row_scale, epilogue };
            write_columns::<S, PANEL_COLUMNS>(simd, must_cast_ref(sums), out, finish);
        }
    }

    /// Rounds the results of a block. `tiles` begin with those of its first row.
    #[inline(always)]
    fn round<S: Simd>(
        &self,
        simd: S,
        kernel: Bf16Kernel,
        sums: &mut Sums,
        row_scales: &[f32],
        tiles: &mut [Tile],
        lines: usize,
    ) {
        let &Self { scales, bias, epilogue, index } = self;
        for (sums, &row_scale) in sums.0.iter_mut().zip(row_scales) {
            let finish = Finish { scales, bias, row_scale, epilogue };
            let results: &mut [f32; PANEL_COLUMNS] = must_cast_mut(sums);
            write_columns::<S, PANEL_COLUMNS>(simd, &results.clone(), results, finish);
        }
        let of_rows = sums.0.as_chunks::<TILE_ROWS>().0.iter().take(row_scales.len().div_ceil(TILE_ROWS));
        for (results, tiles) in of_rows.zip(tiles.chunks_mut(lines)) {
            if let Some(tile) = tiles.get_mut(index) {
                kernel.round_tile(results, tile);
            }
        }
    }
}

/// Multiplies the sums of a row by their scales, then adds the bias and applies the epilogue.
#[derive(Clone, Copy)]
struct Finish<'a> {
    /// The scale of each column.
    scales: &'a [f32],
    bias: &'a [f32],
    row_scale: f32,
    epilogue: Epilogue,
}

impl<S: Simd> OutputOp<S> for Finish<'_> {
    #[inline(always)]
    fn apply(self, simd: S, index: usize, sum: S::f32s, current: &[f32]) -> S::f32s {
        let (scales, biases) = (S::as_simd_f32s(self.scales).0, S::as_simd_f32s(self.bias).0);
        let (Some(&scales), Some(&bias)) = (scales.get(index), biases.get(index)) else { return sum };
        let product = simd.mul_f32s(sum, scales);
        let value = simd.mul_add_f32s(product, simd.splat_f32s(self.row_scale), bias);
        self.epilogue.apply(simd, value, current)
    }
}
