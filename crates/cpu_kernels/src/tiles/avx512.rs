//! Rounding and products with the AVX-512 instructions for bf16 and int8.
//!
//! The functions have a `target_feature` attribute and use no closures. Without the attribute, the
//! compiler would build whatever it does not inline without these instructions.
#![expect(unsafe_code, reason = "calls safe functions that require detected processor features")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm_add_epi8, _mm_set1_epi8, _mm512_add_epi32, _mm512_and_si512,
    _mm512_cvtepi32_ps, _mm512_cvtne2ps_pbh, _mm512_cvtps_epi32, _mm512_cvtsepi32_epi8, _mm512_dpbf16_ps,
    _mm512_dpbusd_epi32, _mm512_max_epi32, _mm512_mul_ps, _mm512_reduce_max_epi32, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps,
};

use bytemuck::must_cast;
use pulp::x86::V4;

use super::{
    bf16_vectors::{Bf16Vectors, line_of},
    layout::{
        LINE_GROUPS, Line, PANEL_COLUMNS, PanelTile, SumRows, TILE_ROWS, Tile, TileFormat, padded_chunks,
    },
    quantization::{INPUT_ZERO_POINT, quantization_scale},
};
use crate::{
    microkernel::{row_tiles, with_tile_rows},
    prefetch::prefetch_ahead,
};

/// Proof that the processor has the AVX-512 instructions of a format, and the features of [`V4`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512 {
    simd: V4,
    format: TileFormat,
}

impl Avx512 {
    pub(super) fn try_new(format: TileFormat) -> Option<Self> {
        let has_format = match format {
            TileFormat::Bf16 => is_x86_feature_detected!("avx512bf16"),
            TileFormat::Int8 => is_x86_feature_detected!("avx512vnni"),
        };
        V4::try_new().filter(|_| has_format).map(|simd| Self { simd, format })
    }

    /// Returns the vectors for what is not a product.
    pub(super) fn simd(self) -> V4 {
        self.simd
    }

    /// Rounds a row to `lines`, and returns what the integer 1 stands for.
    ///
    /// `lines` are in the order of the row. The last one is filled up with zeros.
    pub(super) fn round<'a>(self, row: &[f32], lines: impl Iterator<Item = &'a mut Line>) -> f32 {
        // SAFETY: `try_new` detects the features.
        unsafe {
            match self.format {
                TileFormat::Bf16 => round_to_bf16(row, lines),
                TileFormat::Int8 => round_to_int8(row, lines),
            }
        }
    }

    /// Returns the instructions that only bf16 has.
    pub(super) fn as_bf16(self) -> Option<Bf16Vectors> {
        Bf16Vectors::try_new().filter(|_| self.format == TileFormat::Bf16)
    }

    /// Multiplies `rows` of the `tiles` by a panel. Integer sums begin with `compensation`.
    pub(super) fn multiply(
        self,
        tiles: [&[Tile]; 2],
        rows: usize,
        panel: &[PanelTile],
        compensation: &[Line; 2],
        sums: SumRows<'_>,
    ) {
        let SumRows { numbers, stride } = sums;
        for (first, rows) in row_tiles::<V4>(rows) {
            let sums = SumRows { numbers: numbers.get_mut(first * stride..).unwrap_or_default(), stride };
            // SAFETY: `try_new` detects the features.
            unsafe {
                match self.format {
                    TileFormat::Bf16 => multiply_bf16(tiles, first, rows, panel, compensation, sums),
                    TileFormat::Int8 => multiply_int8(tiles, first, rows, panel, compensation, sums),
                }
            }
        }
    }

    /// Turns integer sums into f32. Adds the `compensation` of each column first.
    pub(super) fn convert_sums(self, compensation: &[Line; 2], sums: &mut [[Line; 2]]) {
        // SAFETY: `V4::try_new` detects the features.
        unsafe { convert_sums(compensation, sums) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn round_to_bf16<'a>(row: &[f32], lines: impl Iterator<Item = &'a mut Line>) -> f32 {
    let (chunks, last) = padded_chunks::<{ 2 * LINE_GROUPS }>(row);
    for (chunk, line) in chunks.iter().chain(&last).zip(lines) {
        let [lower, upper]: [[f32; LINE_GROUPS]; 2] = must_cast(*chunk);
        let rounded: __m512bh = _mm512_cvtne2ps_pbh(must_cast(upper), must_cast(lower));
        *line = line_of(rounded);
    }
    1.0
}

/// Returns the vector with these bits.
#[inline(always)]
fn vector_of(line: Line) -> __m512bh {
    // SAFETY: both types are 64 bytes without invalid values.
    unsafe { std::mem::transmute(line) }
}

/// Quantizes a row around [`INPUT_ZERO_POINT`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn round_to_int8<'a>(row: &[f32], lines: impl Iterator<Item = &'a mut Line>) -> f32 {
    let (chunks, last) = padded_chunks::<{ 4 * LINE_GROUPS }>(row);
    // Without their signs, floats are in the order of their bits, with NaN above all others.
    let magnitude_mask = _mm512_set1_epi32(i32::MAX);
    let mut max = _mm512_set1_epi32(0);
    for chunk in chunks.iter().chain(&last) {
        let vectors: [[f32; LINE_GROUPS]; 4] = must_cast(*chunk);
        for vector in vectors {
            max = _mm512_max_epi32(max, _mm512_and_si512(must_cast(vector), magnitude_mask));
        }
    }
    let scale = quantization_scale(f32::from_bits(_mm512_reduce_max_epi32(max).cast_unsigned()));
    let inverse_scale = _mm512_set1_ps(1.0 / scale);
    for (chunk, line) in chunks.iter().chain(&last).zip(lines) {
        let vectors: [[f32; LINE_GROUPS]; 4] = must_cast(*chunk);
        let mut bytes = [[0; LINE_GROUPS]; 4];
        for (bytes, vector) in bytes.iter_mut().zip(vectors) {
            *bytes = quantize_vector(must_cast(vector), inverse_scale);
        }
        *line = must_cast(bytes);
    }
    scale
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn quantize_vector(values: __m512, inverse_scale: __m512) -> [u8; LINE_GROUPS] {
    let rounded = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(values, inverse_scale)));
    must_cast(_mm_add_epi8(rounded, _mm_set1_epi8(INPUT_ZERO_POINT.cast_signed())))
}

/// Defines the product of `rows` rows, at most 12, from `first_row` on, by a panel.
///
/// A macro and not a generic function: each format needs its own `target_feature` attribute.
macro_rules! define_multiply {
    ($name:ident, $inner:ident, $features:literal, $begin:ident, $add:ident, $finish:ident) => {
        #[target_feature(enable = $features)]
        fn $name(
            tiles: [&[Tile]; 2],
            first_row: usize,
            rows: usize,
            panel: &[PanelTile],
            compensation: &[Line; 2],
            sums: SumRows<'_>,
        ) {
            with_tile_rows!(rows, $inner(tiles, first_row, panel, compensation, sums));
        }

        #[target_feature(enable = $features)]
        fn $inner<const ROWS: usize>(
            tiles: [&[Tile]; 2],
            first_row: usize,
            panel: &[PanelTile],
            compensation: &[Line; 2],
            out: SumRows<'_>,
        ) {
            let mut rows: [&[Line]; ROWS] = [&[]; ROWS];
            for (offset, row) in rows.iter_mut().enumerate() {
                let place = first_row + offset;
                let [first, second] = tiles;
                let tiles = if place < TILE_ROWS { first } else { second };
                *row = tiles.as_flattened().get(place % TILE_ROWS..).unwrap_or_default();
            }
            let mut sums = [$begin(compensation); ROWS];
            for (step, weights) in panel.iter().enumerate() {
                let mut lines = [&[0; LINE_GROUPS]; ROWS];
                for (line, row) in lines.iter_mut().zip(rows) {
                    let Some(of_step) = row.get(step * TILE_ROWS) else { return };
                    *line = of_step;
                }
                for (index, weights) in weights.iter().enumerate() {
                    prefetch_ahead(weights);
                    for (sums, line) in sums.iter_mut().zip(lines) {
                        let Some(&group) = line.get(index) else { continue };
                        for (sum, &weights) in sums.iter_mut().zip(weights) {
                            *sum = $add(*sum, group, weights);
                        }
                    }
                }
            }
            for (out, [first, second]) in out.numbers.chunks_mut(out.stride).zip(sums) {
                if let Some(out) = out.first_chunk_mut::<PANEL_COLUMNS>() {
                    *out = must_cast([$finish(first), $finish(second)]);
                }
            }
        }
    };
}

define_multiply!(
    multiply_bf16,
    multiply_rows_bf16,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16",
    begin_bf16,
    add_bf16,
    finish_bf16
);
define_multiply!(
    multiply_int8,
    multiply_rows_int8,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
    begin_int8,
    add_int8,
    finish_int8
);

#[target_feature(enable = "avx512f")]
#[inline]
fn begin_bf16(_: &[Line; 2]) -> [__m512; 2] {
    [_mm512_setzero_ps(); 2]
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn add_bf16(sum: __m512, group: u32, weights: Line) -> __m512 {
    _mm512_dpbf16_ps(sum, vector_of([group; LINE_GROUPS]), vector_of(weights))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn finish_bf16(sum: __m512) -> Line {
    must_cast(sum)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn begin_int8(&[first, second]: &[Line; 2]) -> [__m512i; 2] {
    [must_cast(first), must_cast(second)]
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_int8(sum: __m512i, group: u32, weights: Line) -> __m512i {
    _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(group.cast_signed()), must_cast(weights))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn finish_int8(sum: __m512i) -> Line {
    must_cast(_mm512_cvtepi32_ps(sum))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn convert_sums(compensation: &[Line; 2], sums: &mut [[Line; 2]]) {
    for row in sums {
        for (line, &compensation) in row.iter_mut().zip(compensation) {
            let sum = _mm512_add_epi32(must_cast(*line), must_cast(compensation));
            *line = must_cast(_mm512_cvtepi32_ps(sum));
        }
    }
}
