//! The int8 kernel for processors with AVX-512 VNNI.
//!
//! One instruction multiplies 64 unsigned bytes by 64 signed bytes and adds four products each to
//! 16 sums of 32 bits. The loop has the structure of [`crate::microkernel`].
//!
//! The functions have a `target_feature` attribute and use no closures. Without the attribute, the
//! compiler would build whatever it does not inline without these instructions.
#![expect(unsafe_code, reason = "calls a safe function that requires detected processor features")]

use std::arch::x86_64::{
    __m512, __m512i, _mm_add_epi8, _mm_set1_epi8, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_cvtsepi32_epi8, _mm512_dpbusd_epi32, _mm512_max_epi32, _mm512_mul_ps, _mm512_reduce_max_epi32,
    _mm512_set1_epi32, _mm512_set1_ps,
};

use bytemuck::{cast_slice, must_cast};
use pulp::{Simd, f32x16, x86::V4};

use super::{
    constants::{GROUP_INPUTS, INPUT_ZERO_POINT, PANEL_COLUMNS, PANEL_VECTORS, UNROLL, quantization_scale},
    quantized_weights::QuantizedWeights,
    scratch::Int8Scratch,
};
use crate::{
    epilogue::Epilogue,
    microkernel::{OutputOp, row_tiles, with_tile_rows, write_row},
};

/// The quantized inputs of a row: each `i32` holds a group of four bytes.
type InputGroups = [[i32; UNROLL]];

/// A panel of columns: for each group of inputs, two vectors of 16 columns with four weights each.
type Panel = [[[__m512i; PANEL_VECTORS]; UNROLL]];

/// Proof that the processor has AVX-512 VNNI and the features of [`V4`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Vnni(V4);

impl Vnni {
    pub(super) fn try_new() -> Option<Self> {
        V4::try_new().filter(|_| is_x86_feature_detected!("avx512vnni")).map(Self)
    }

    /// Computes the output of a layer, see `CpuInt8Linear::forward`.
    pub(super) fn forward(
        self,
        weights: &QuantizedWeights,
        input: &[f32],
        out: &mut [f32],
        epilogue: Epilogue,
        scratch: &mut Int8Scratch,
    ) {
        // SAFETY: a `Vnni` comes from `try_new` only. It detects AVX-512 VNNI, and `V4::try_new`
        // detects the other features.
        unsafe { forward(self.0, weights, input, out, epilogue, scratch) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn forward(
    simd: V4,
    weights: &QuantizedWeights,
    input: &[f32],
    out: &mut [f32],
    epilogue: Epilogue,
    scratch: &mut Int8Scratch,
) {
    let (inputs, outputs) = (weights.inputs, weights.outputs);
    let rows = (input.len() / inputs).min(out.len() / outputs);
    let row_bytes = inputs.next_multiple_of(GROUP_INPUTS * UNROLL);
    let (quantized, row_scales) = scratch.reserve(rows, row_bytes);
    let quantized_rows = quantized.chunks_exact_mut(row_bytes).zip(&mut *row_scales);
    for (row, (quantized, scale)) in input.chunks_exact(inputs).zip(quantized_rows) {
        *scale = quantize_row(row, quantized);
    }
    let chunks = row_bytes / GROUP_INPUTS / UNROLL;
    let quantized: &InputGroups = cast_slice::<u8, i32>(quantized).as_chunks().0;
    let panels = weights.panels.cast().as_chunks().0.as_chunks().0.chunks_exact(chunks);
    let panels = panels.zip(weights.compensation.cast().as_chunks().0);
    let scales = weights.scales.as_f32().chunks_exact(PANEL_COLUMNS);
    let scales = scales.zip(weights.bias.as_f32().chunks_exact(PANEL_COLUMNS));
    for (index, ((panel, &compensation), (scales, bias))) in panels.zip(scales).enumerate() {
        let first = index * PANEL_COLUMNS;
        let columns = PanelColumns { panel, compensation, scales, bias, first, outputs, epilogue };
        for (first, tile_rows) in row_tiles::<V4>(rows) {
            let (Some(quantized), Some(row_scales), Some(out)) =
                (quantized.get(first * chunks..), row_scales.get(first..), out.get_mut(first * outputs..))
            else {
                return;
            };
            with_tile_rows!(tile_rows, write_tile(simd, quantized, row_scales, columns, out));
        }
    }
}

/// Quantizes `row` around [`INPUT_ZERO_POINT`] and returns its scale.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn quantize_row(row: &[f32], quantized: &mut [u8]) -> f32 {
    let (vectors, tail) = row.as_chunks();
    let mut last = [0.0; 16];
    for (padded, &value) in last.iter_mut().zip(tail) {
        *padded = value;
    }
    // Without their signs, floats are in the order of their bits, with NaN above all others.
    let magnitude_mask = _mm512_set1_epi32(i32::MAX);
    let mut max = _mm512_and_si512(must_cast(last), magnitude_mask);
    for &vector in vectors {
        max = _mm512_max_epi32(max, _mm512_and_si512(must_cast::<[f32; 16], _>(vector), magnitude_mask));
    }
    let scale = quantization_scale(f32::from_bits(_mm512_reduce_max_epi32(max).cast_unsigned()));
    let inverse_scale = _mm512_set1_ps(1.0 / scale);
    let mut quantized = quantized.as_chunks_mut().0.iter_mut();
    for (&vector, quantized) in vectors.iter().zip(&mut quantized) {
        *quantized = quantize_vector(must_cast(vector), inverse_scale);
    }
    if let Some(quantized) = quantized.next() {
        *quantized = quantize_vector(must_cast(last), inverse_scale);
    }
    scale
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn quantize_vector(values: __m512, inverse_scale: __m512) -> [u8; 16] {
    let rounded = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(values, inverse_scale)));
    must_cast(_mm_add_epi8(rounded, _mm_set1_epi8(INPUT_ZERO_POINT.cast_signed())))
}

/// A panel and its output columns.
#[derive(Clone, Copy)]
struct PanelColumns<'a> {
    panel: &'a Panel,
    /// The value that the sum of each column begins with.
    compensation: [__m512i; PANEL_VECTORS],
    /// The quantization scale of each column.
    scales: &'a [f32],
    bias: &'a [f32],
    /// Index of the first column.
    first: usize,
    /// Length of an output row.
    outputs: usize,
    epilogue: Epilogue,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn write_tile<const ROWS: usize>(
    simd: V4,
    quantized: &InputGroups,
    row_scales: &[f32],
    columns: PanelColumns<'_>,
    out: &mut [f32],
) {
    let mut rows: [&InputGroups; ROWS] = [&[]; ROWS];
    let mut rest = quantized;
    // Not `chunks_exact`: the compiler would store all slices with one slow scatter instruction.
    for row in &mut rows {
        let Some((groups, others)) = rest.split_at_checked(columns.panel.len()) else { return };
        (*row, rest) = (groups, others);
    }
    let sums = multiply_tile(rows, columns.panel, columns.compensation);
    write_rows(simd, &sums, row_scales, columns, out);
}

/// Multiplies `rows` by the columns of `panel`. Each sum begins with the `compensation` of its
/// column.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn multiply_tile<const ROWS: usize>(
    rows: [&InputGroups; ROWS],
    panel: &Panel,
    compensation: [__m512i; PANEL_VECTORS],
) -> [[__m512i; PANEL_VECTORS]; ROWS] {
    let mut sums = [compensation; ROWS];
    for (index, weights) in panel.iter().enumerate() {
        let mut inputs = [&[0; UNROLL]; ROWS];
        for (input, row) in inputs.iter_mut().zip(rows) {
            let Some(groups) = row.get(index) else { return sums };
            *input = groups;
        }
        for (offset, weights) in weights.iter().enumerate() {
            for (sums, input) in sums.iter_mut().zip(inputs) {
                let Some(&group) = input.get(offset) else { continue };
                let group = _mm512_set1_epi32(group);
                for (sum, &weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, group, weights);
                }
            }
        }
    }
    sums
}

/// Writes the outputs of a tile.
///
/// The function is not generic over the number of rows, because it is long and gains nothing from
/// it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn write_rows(
    simd: V4,
    sums: &[[__m512i; PANEL_VECTORS]],
    row_scales: &[f32],
    columns: PanelColumns<'_>,
    out: &mut [f32],
) {
    let rows = sums.iter().zip(row_scales).zip(out.chunks_exact_mut(columns.outputs));
    for ((&[first, second], &row_scale), out) in rows {
        let sums = [must_cast(_mm512_cvtepi32_ps(first)), must_cast(_mm512_cvtepi32_ps(second))];
        let out = out.get_mut(columns.first..).unwrap_or_default();
        write_row(simd, sums, out, Dequantize { row_scale, columns });
    }
}

/// Multiplies the sums of a row by their scales, then adds the bias and applies the epilogue.
#[derive(Clone, Copy)]
struct Dequantize<'a> {
    row_scale: f32,
    columns: PanelColumns<'a>,
}

impl OutputOp<V4> for Dequantize<'_> {
    #[inline(always)]
    fn apply(self, simd: V4, index: usize, sum: f32x16, current: &[f32]) -> f32x16 {
        let PanelColumns { scales, bias, epilogue, .. } = self.columns;
        let (scales, biases) = (V4::as_simd_f32s(scales).0, V4::as_simd_f32s(bias).0);
        let (Some(&scales), Some(&bias)) = (scales.get(index), biases.get(index)) else { return sum };
        let product = simd.mul_f32s(sum, scales);
        epilogue.apply(simd, simd.mul_add_f32s(product, simd.splat_f32s(self.row_scale), bias), current)
    }
}
