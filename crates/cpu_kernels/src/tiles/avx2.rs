//! Rounding and products in int8 with AVX2, for processors without AVX-512 VNNI.
//!
//! AVX2 multiplies unsigned bytes by signed ones and adds two products in 16 bits. With a zero
//! point, inputs up to 255 would overflow them. Therefore an input is stored as its magnitude and
//! its sign, and a negative input flips the bits of its weights. Since `!w` is `-w - 1`, this
//! subtracts the magnitudes of the negative inputs from each sum. The sums begin with them.
//!
//! The lines of a row are the magnitudes of 64 inputs, their signs as bytes of 0 or -1, those of
//! the next 64, and so on. The last line begins with what the sums begin with. The rest of it is
//! unspecified.
//!
//! A magnitude is at most 127 and a weight at least -128, so two products fit into 16 bits. In a
//! row with NaN a magnitude is 128, and the result is NaN whatever the sums are.
//!
//! As in `avx512`, the functions have a `target_feature` attribute and use no closures.
#![expect(unsafe_code, reason = "calls safe functions that require detected processor features")]

use std::arch::x86_64::{
    __m256, __m256i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256,
    _mm256_cmpgt_epi8, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_mul_ps, _mm256_packs_epi16, _mm256_packs_epi32, _mm256_permutevar8x32_epi32, _mm256_sad_epu8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_si256,
    _mm256_xor_si256,
};

use bytemuck::{must_cast, must_cast_mut};
use pulp::x86::V3;

use super::{
    layout::{
        LINE_GROUPS, Line, PANEL_COLUMNS, PanelTile, SumRows, TILE_ROWS, Tile, TileFormat, padded_chunks,
    },
    quantization::quantization_scale,
};
use crate::prefetch::prefetch_ahead;

/// Rows that are multiplied together. The sums of two rows take half of the registers.
const PAIR_ROWS: usize = 2;

/// Half of a line, as long as a vector.
type Half = [u32; LINE_GROUPS / 2];

/// Proof that the processor has the features of [`V3`], AVX2 among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(V3);

impl Avx2 {
    /// Returns the number of lines of a rounded row whose weights have `lines` lines.
    pub(super) fn row_lines(lines: usize) -> usize {
        2 * lines + 1
    }

    /// Returns `None` also for bf16.
    pub(super) fn try_new(format: TileFormat) -> Option<Self> {
        V3::try_new().filter(|_| format == TileFormat::Int8).map(Self)
    }

    /// Returns the vectors for what is not a product.
    pub(super) fn simd(self) -> V3 {
        self.0
    }

    /// Rounds a row to `lines`, and returns what the integer 1 stands for.
    ///
    /// Zeros fill the last magnitudes and signs.
    pub(super) fn round<'a>(self, row: &[f32], lines: impl Iterator<Item = &'a mut Line>) -> f32 {
        // SAFETY: `try_new` detects the features.
        unsafe { round(row, lines) }
    }

    /// Multiplies `rows` of the `tiles` by a panel. Sums begin with `compensation`.
    pub(super) fn multiply(
        self,
        tiles: [&[Tile]; 2],
        rows: usize,
        panel: &[PanelTile],
        compensation: &[Line; 2],
        sums: SumRows<'_>,
    ) {
        let SumRows { numbers, stride } = sums;
        for first in (0..rows).step_by(PAIR_ROWS) {
            let sums = SumRows { numbers: numbers.get_mut(first * stride..).unwrap_or_default(), stride };
            // SAFETY: `try_new` detects the features.
            unsafe {
                match rows - first {
                    1 => multiply_rows::<1>(tiles, first, panel, compensation, sums),
                    _ => multiply_rows::<PAIR_ROWS>(tiles, first, panel, compensation, sums),
                }
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn round<'a>(row: &[f32], mut lines: impl Iterator<Item = &'a mut Line>) -> f32 {
    let (chunks, last) = padded_chunks::<{ TileFormat::Int8.group_inputs() * LINE_GROUPS }>(row);
    let mut max = 0;
    for number in row {
        // Without their signs, floats are in the order of their bits, with NaN above all others.
        max = max.max(number.to_bits().cast_signed() & i32::MAX);
    }
    let scale = quantization_scale(f32::from_bits(max.cast_unsigned()));
    let inverse_scale = _mm256_set1_ps(1.0 / scale);
    let zero = _mm256_setzero_si256();
    let mut negative = zero;
    for chunk in chunks.iter().chain(&last) {
        let (Some(magnitudes), Some(signs)) = (lines.next(), lines.next()) else { return scale };
        let halves: [[__m256; 4]; 2] = must_cast(*chunk);
        let magnitudes: &mut [Half; 2] = must_cast_mut(magnitudes);
        let signs: &mut [Half; 2] = must_cast_mut(signs);
        for ((numbers, magnitudes), signs) in halves.into_iter().zip(magnitudes).zip(signs) {
            let bytes = quantize_vectors(numbers, inverse_scale);
            let [of_bytes, of_negative] = [_mm256_abs_epi8(bytes), _mm256_cmpgt_epi8(zero, bytes)];
            (*magnitudes, *signs) = (must_cast(of_bytes), must_cast(of_negative));
            let summed = _mm256_sad_epu8(_mm256_and_si256(of_bytes, of_negative), zero);
            negative = _mm256_add_epi64(negative, summed);
        }
    }
    if let Some([first, ..]) = lines.next() {
        let sums: [u64; 4] = must_cast(negative);
        *first = sums.iter().sum::<u64>() as u32;
    }
    scale
}

/// Quantizes 32 numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn quantize_vectors([first, second, third, fourth]: [__m256; 4], inverse_scale: __m256) -> __m256i {
    let first = _mm256_cvtps_epi32(_mm256_mul_ps(first, inverse_scale));
    let second = _mm256_cvtps_epi32(_mm256_mul_ps(second, inverse_scale));
    let third = _mm256_cvtps_epi32(_mm256_mul_ps(third, inverse_scale));
    let fourth = _mm256_cvtps_epi32(_mm256_mul_ps(fourth, inverse_scale));
    let packed = _mm256_packs_epi16(_mm256_packs_epi32(first, second), _mm256_packs_epi32(third, fourth));
    // The instructions pack each half of their vectors separately.
    _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

#[target_feature(enable = "avx2")]
fn multiply_rows<const ROWS: usize>(
    tiles: [&[Tile]; 2],
    first_row: usize,
    panel: &[PanelTile],
    compensation: &[Line; 2],
    out: SumRows<'_>,
) {
    let [first, second] = tiles;
    let tiles = if first_row < TILE_ROWS { first } else { second };
    let mut rows: [&[Line]; ROWS] = [&[]; ROWS];
    let mut sums: [[__m256i; 4]; ROWS] = [must_cast(*compensation); ROWS];
    for (offset, (row, sums)) in rows.iter_mut().zip(&mut sums).enumerate() {
        *row = tiles.as_flattened().get(first_row % TILE_ROWS + offset..).unwrap_or_default();
        let Some(&[subtracted, ..]) = row.get(2 * panel.len() * TILE_ROWS) else { return };
        let subtracted = _mm256_set1_epi32(subtracted.cast_signed());
        for sum in sums {
            *sum = _mm256_add_epi32(*sum, subtracted);
        }
    }
    for (step, weights) in panel.iter().enumerate() {
        let mut lines = [[&[0; LINE_GROUPS]; 2]; ROWS];
        for (lines, row) in lines.iter_mut().zip(rows) {
            for (index, line) in lines.iter_mut().enumerate() {
                let Some(of_step) = row.get((2 * step + index) * TILE_ROWS) else { return };
                *line = of_step;
            }
        }
        for (index, weights) in weights.iter().enumerate() {
            // Later rows read the weights from a cache.
            if first_row == 0 {
                prefetch_ahead(weights);
            }
            let weights: [__m256i; 4] = must_cast(*weights);
            for (sums, [magnitudes, signs]) in sums.iter_mut().zip(lines) {
                let (Some(&magnitudes), Some(&signs)) = (magnitudes.get(index), signs.get(index)) else {
                    continue;
                };
                let magnitudes = _mm256_set1_epi32(magnitudes.cast_signed());
                let signs = _mm256_set1_epi32(signs.cast_signed());
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    let products = _mm256_maddubs_epi16(magnitudes, _mm256_xor_si256(signs, weights));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
                }
            }
        }
    }
    for (out, sums) in out.numbers.chunks_mut(out.stride).zip(sums) {
        if let Some(out) = out.first_chunk_mut::<PANEL_COLUMNS>() {
            let mut numbers = [[0f32; 8]; 4];
            for (numbers, sum) in numbers.iter_mut().zip(sums) {
                *numbers = must_cast(_mm256_cvtepi32_ps(sum));
            }
            *out = must_cast(numbers);
        }
    }
}
