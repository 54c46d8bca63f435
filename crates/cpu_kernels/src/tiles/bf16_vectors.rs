//! Rounding to bf16 and packing for attention, with AVX-512.
//!
//! The functions have a `target_feature` attribute and use no closures, see `avx512`.
#![expect(unsafe_code, reason = "calls safe functions that require detected processor features")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_fmadd_ps, _mm512_max_ps,
    _mm512_mul_ps, _mm512_permutex2var_epi16, _mm512_permutex2var_epi32, _mm512_reduce_add_ps,
    _mm512_reduce_max_ps, _mm512_reduce_ps, _mm512_scalef_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use bytemuck::must_cast;
use pulp::x86::V4;

use super::layout::{BLOCK_ROWS, LINE_GROUPS, Line, MatrixPart, PANEL_COLUMNS, PanelTile, TILE_ROWS, Tile};

/// A polynomial for `2^x` from 0 to 1. It is a fit of least squares, reweighted until the largest
/// relative error was minimal: 2.7e-6, a seven-hundredth of that of rounding to bf16.
const EXP2_COEFFICIENTS: [f32; 5] = [1.000_002_6, 0.693_003_8, 0.241_442_75, 0.052_011_46, 0.013_534_168];

/// For [`_mm512_permutex2var_epi16`]: the lower and the upper halves of two vectors, in turns.
#[expect(clippy::indexing_slicing, reason = "a wrong index would not compile")]
const INTERLEAVED_PAIRS: [[u16; 2 * LINE_GROUPS]; 2] = {
    let mut places = [[0; 2 * LINE_GROUPS]; 2];
    let mut index = 0;
    while index < 2 * LINE_GROUPS {
        places[0][index] = (index / 2 + index % 2 * 2 * LINE_GROUPS) as u16;
        places[1][index] = places[0][index] + LINE_GROUPS as u16;
        index += 1;
    }
    places
};

/// For [`_mm512_permutex2var_epi32`]: the same for groups of numbers.
#[expect(clippy::indexing_slicing, reason = "a wrong index would not compile")]
const INTERLEAVED_GROUPS: [Line; 2] = {
    let mut places = [[0; LINE_GROUPS]; 2];
    let mut index = 0;
    while index < LINE_GROUPS {
        places[0][index] = (index / 2 + index % 2 * LINE_GROUPS) as u32;
        places[1][index] = places[0][index] + LINE_GROUPS as u32 / 2;
        index += 1;
    }
    places
};

/// Proof that the processor has the AVX-512 instructions for bf16, and the features of [`V4`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bf16Vectors(V4);

impl Bf16Vectors {
    pub(super) fn try_new() -> Option<Self> {
        V4::try_new().filter(|_| is_x86_feature_detected!("avx512bf16")).map(Self)
    }

    /// Returns the vectors for other operations.
    pub(super) fn simd(self) -> V4 {
        self.0
    }

    /// Rounds 32 numbers of each of 16 rows.
    pub(super) fn round_tile(self, rows: &[[Line; 2]; TILE_ROWS], tile: &mut Tile) {
        // SAFETY: `self` proves the features.
        unsafe { round_tile(rows, tile) };
    }

    /// Rounds the sums of a panel to rows in bf16, see `Bf16Kernel::finish_rows`.
    pub(super) fn finish_rows(
        self,
        sums: &[[Line; 2]],
        row_scales: &[f32],
        columns: [&[f32; PANEL_COLUMNS]; 2],
        out: MatrixPart<'_>,
    ) {
        // SAFETY: `self` proves the features.
        unsafe { finish_rows(sums, row_scales, columns, out) };
    }

    /// Rounds columns of rows, see `Bf16Kernel::round_rows`.
    pub(super) fn round_rows(self, rows: &[f32], stride: usize, width: usize, lines: &mut [Line]) {
        // SAFETY: `self` proves the features.
        unsafe { round_rows(rows, stride, width, lines) };
    }

    /// Copies columns of rows, see `Bf16Kernel::copy_rows`.
    pub(super) fn copy_rows(self, rows: &[u16], stride: usize, width: usize, lines: &mut [Line]) {
        // SAFETY: `self` proves the features.
        unsafe { copy_rows(rows, stride, width, lines) };
    }

    /// Writes rows as columns, see `Bf16Kernel::transpose`.
    pub(super) fn transpose(self, rows: &[Line; BLOCK_ROWS], tile: &mut PanelTile) {
        // SAFETY: `self` proves the features.
        unsafe { transpose(rows, tile) };
    }

    /// Writes pairs of rows, see `Bf16Kernel::pair_rows`.
    pub(super) fn pair_rows(self, rows: &[Line; BLOCK_ROWS], tile: &mut PanelTile) {
        // SAFETY: `self` proves the features.
        unsafe { pair_rows(rows, tile) };
    }

    /// Rounds the numerators of a softmax, see `Bf16Kernel::round_softmax`.
    pub(super) fn round_softmax<'a>(
        self,
        scores: &mut [f32],
        tokens: usize,
        scale: f32,
        lines: impl Iterator<Item = &'a mut Line>,
    ) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe { round_softmax(scores, tokens, scale, lines) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn round_tile(rows: &[[Line; 2]; TILE_ROWS], tile: &mut Tile) {
    for (&[lower, upper], line) in rows.iter().zip(tile) {
        *line = line_of(_mm512_cvtne2ps_pbh(must_cast(upper), must_cast(lower)));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn finish_rows(
    sums: &[[Line; 2]],
    row_scales: &[f32],
    [scales, bias]: [&[f32; PANEL_COLUMNS]; 2],
    out: MatrixPart<'_>,
) {
    let MatrixPart { numbers, stride, first_column } = out;
    let (scales, bias): ([Line; 2], [Line; 2]) = (must_cast(*scales), must_cast(*bias));
    for ((sums, &row_scale), row) in sums.iter().zip(row_scales).zip(numbers.chunks_mut(stride)) {
        let out = row.get_mut(first_column..).unwrap_or_default();
        let mut results = [_mm512_setzero_ps(); 2];
        for (result, (sum, (scale, bias))) in
            results.iter_mut().zip(sums.iter().zip(scales.iter().zip(&bias)))
        {
            let product = _mm512_mul_ps(must_cast(*sum), must_cast(*scale));
            *result = _mm512_fmadd_ps(product, _mm512_set1_ps(row_scale), must_cast(*bias));
        }
        let [lower, upper] = results;
        let line: [u16; PANEL_COLUMNS] = must_cast(line_of(_mm512_cvtne2ps_pbh(upper, lower)));
        match out.first_chunk_mut::<PANEL_COLUMNS>() {
            Some(out) => *out = line,
            None => {
                for (out, number) in out.iter_mut().zip(line) {
                    *out = number;
                }
            }
        }
    }
}

/// Defines how columns of rows become lines.
///
/// A macro and not a generic function: each conversion needs the `target_feature` attribute.
macro_rules! define_read {
    ($name:ident, $number:ty, $zero:literal, $convert:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
        fn $name(rows: &[$number], stride: usize, width: usize, lines: &mut [Line]) {
            let mut rows = rows.chunks(stride);
            for line in lines {
                let row = match rows.next() {
                    Some(row) => row.get(..width.min(PANEL_COLUMNS)).unwrap_or_default(),
                    None => &[],
                };
                let mut padded = [$zero; PANEL_COLUMNS];
                let numbers = match row.first_chunk() {
                    Some(numbers) => numbers,
                    None => {
                        for (padded, &number) in padded.iter_mut().zip(row) {
                            *padded = number;
                        }
                        &padded
                    }
                };
                *line = $convert(numbers);
            }
        }
    };
}

define_read!(round_rows, f32, 0.0, rounded_line);
define_read!(copy_rows, u16, 0, copied_line);

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn rounded_line(numbers: &[f32; PANEL_COLUMNS]) -> Line {
    let [lower, upper]: [Line; 2] = must_cast(*numbers);
    line_of(_mm512_cvtne2ps_pbh(must_cast(upper), must_cast(lower)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn copied_line(numbers: &[u16; PANEL_COLUMNS]) -> Line {
    must_cast(*numbers)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn transpose(rows: &[Line; BLOCK_ROWS], tile: &mut PanelTile) {
    let places: [__m512i; 2] = must_cast(INTERLEAVED_GROUPS);
    for (half, rows) in rows.as_chunks::<TILE_ROWS>().0.iter().enumerate() {
        // Each step interleaves the first half of the vectors with the second half. After four
        // steps, the bits of a number's row and column have changed places.
        let mut vectors = *rows;
        for _ in 0..LINE_GROUPS.ilog2() {
            let (first, second) = vectors.split_at(LINE_GROUPS / 2);
            let mut interleaved = [[0; LINE_GROUPS]; TILE_ROWS];
            for ((first, second), pair) in first.iter().zip(second).zip(interleaved.as_chunks_mut::<2>().0) {
                for (places, vector) in places.iter().zip(pair) {
                    *vector =
                        must_cast(_mm512_permutex2var_epi32(must_cast(*first), *places, must_cast(*second)));
                }
            }
            vectors = interleaved;
        }
        for (vector, lines) in vectors.iter().zip(&mut *tile) {
            if let Some(line) = lines.get_mut(half) {
                *line = *vector;
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pair_rows(rows: &[Line; BLOCK_ROWS], tile: &mut PanelTile) {
    let places: [__m512i; 2] = must_cast(INTERLEAVED_PAIRS);
    for ([first, second], lines) in rows.as_chunks::<2>().0.iter().zip(tile) {
        for (places, line) in places.iter().zip(lines) {
            *line = must_cast(_mm512_permutex2var_epi16(must_cast(*first), *places, must_cast(*second)));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn round_softmax<'a>(
    scores: &mut [f32],
    tokens: usize,
    scale: f32,
    lines: impl Iterator<Item = &'a mut Line>,
) -> f32 {
    scores.get_mut(tokens..).unwrap_or_default().fill(f32::NEG_INFINITY);
    let chunks = scores.as_chunks::<{ 2 * LINE_GROUPS }>().0;
    let mut max = [_mm512_set1_ps(f32::NEG_INFINITY); 2];
    for chunk in chunks {
        let vectors: [[f32; LINE_GROUPS]; 2] = must_cast(*chunk);
        for (max, vector) in max.iter_mut().zip(vectors) {
            *max = _mm512_max_ps(*max, must_cast(vector));
        }
    }
    let [first, second] = max;
    // Powers of 2 are faster than powers of e.
    let scale = scale * std::f32::consts::LOG2_E;
    let offset = _mm512_set1_ps(-scale * _mm512_reduce_max_ps(_mm512_max_ps(first, second)));
    let scale = _mm512_set1_ps(scale);
    let mut sums = [_mm512_setzero_ps(); 2];
    for (chunk, line) in chunks.iter().zip(lines) {
        let mut numerators: [[f32; LINE_GROUPS]; 2] = must_cast(*chunk);
        for (numerators, sum) in numerators.iter_mut().zip(&mut sums) {
            let numerator = exp2(_mm512_fmadd_ps(must_cast(*numerators), scale, offset));
            *numerators = must_cast(numerator);
            *sum = _mm512_add_ps(*sum, numerator);
        }
        let [lower, upper] = numerators;
        *line = line_of(_mm512_cvtne2ps_pbh(must_cast(upper), must_cast(lower)));
    }
    let [first, second] = sums;
    _mm512_reduce_add_ps(_mm512_add_ps(first, second))
}

/// Computes `2^x`, for a result that is rounded to bf16. NaN is preserved.
///
/// A smaller `x` counts as -126, whose result is the smallest normal number. Subnormal numbers are
/// slow.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn exp2(x: __m512) -> __m512 {
    /// Subtracts the integer below `x`.
    const DOWN: i32 = 0b0001;
    let x = _mm512_max_ps(_mm512_set1_ps(-126.0), x);
    let fraction = _mm512_reduce_ps::<DOWN>(x);
    let [c0, c1, c2, c3, c4] = EXP2_COEFFICIENTS;
    let value = _mm512_fmadd_ps(_mm512_set1_ps(c4), fraction, _mm512_set1_ps(c3));
    let value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(c2));
    let value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(c1));
    let value = _mm512_fmadd_ps(value, fraction, _mm512_set1_ps(c0));
    // Multiplies by 2 to the power of the integer below `x`.
    _mm512_scalef_ps(value, x)
}

/// Returns the bits of a vector.
#[inline(always)]
pub(super) fn line_of(vector: __m512bh) -> Line {
    // SAFETY: both types are 64 bytes without invalid values.
    unsafe { std::mem::transmute(vector) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn vectors() -> Option<Bf16Vectors> {
        let vectors = Bf16Vectors::try_new();
        if vectors.is_none() {
            writeln!(std::io::stderr(), "tests skipped: no AVX-512 instructions for bf16").unwrap();
        }
        vectors
    }

    #[test]
    fn powers_of_two_match_double_precision() {
        #[target_feature(enable = "avx512f,avx512dq")]
        fn all(numbers: &[f32; LINE_GROUPS]) -> [f32; LINE_GROUPS] {
            must_cast(exp2(must_cast(*numbers)))
        }
        if vectors().is_none() {
            return;
        }
        for first in (-2_016..100).step_by(LINE_GROUPS) {
            let numbers = std::array::from_fn(|index| (first + index as i32) as f32 / 16.1);
            // SAFETY: `vectors` detects the features.
            for (x, power) in numbers.into_iter().zip(unsafe { all(&numbers) }) {
                let expected = f64::from(x).exp2();
                assert!((f64::from(power) - expected).abs() <= 3e-6 * expected + 1e-38, "2^{x} = {power}");
            }
        }
        let odd = [f32::NEG_INFINITY, f32::NAN, 0.0, -1.0, -1e30];
        let numbers = std::array::from_fn(|index| odd.get(index).copied().unwrap_or(0.0));
        // SAFETY: `vectors` detects the features.
        let [none, nan, one, half, tiny, ..] = unsafe { all(&numbers) };
        assert!(nan.is_nan() && [none, tiny].iter().all(|&power| (0.0..2e-38).contains(&power)));
        assert!((one - 1.0).abs() < 3e-6 && (half - 0.5).abs() < 2e-6);
    }

    #[test]
    fn packed_rows_are_columns_or_pairs() {
        let Some(vectors) = vectors() else { return };
        let number = |row: usize, column: usize| (row * 100 + column) as u16;
        let rows: [Line; BLOCK_ROWS] = std::array::from_fn(|row| {
            must_cast(std::array::from_fn::<u16, PANEL_COLUMNS, _>(|column| number(row, column)))
        });
        let mut tile = PanelTile::default();
        vectors.transpose(&rows, &mut tile);
        for (group, lines) in tile.iter().enumerate() {
            let columns: [[u16; 2]; BLOCK_ROWS] = must_cast(*lines);
            for (row, pair) in columns.into_iter().enumerate() {
                assert_eq!(pair, [2 * group, 2 * group + 1].map(|column| number(row, column)));
            }
        }
        vectors.pair_rows(&rows, &mut tile);
        for (group, lines) in tile.iter().enumerate() {
            let columns: [[u16; 2]; PANEL_COLUMNS] = must_cast(*lines);
            for (column, pair) in columns.into_iter().enumerate() {
                assert_eq!(pair, [2 * group, 2 * group + 1].map(|row| number(row, column)));
            }
        }
    }
}
