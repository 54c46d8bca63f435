//! The passes on AVX2, which compute eight 32-bit sums at a time. All code is safe. A caller must
//! ensure that the processor has AVX2, which `passes/mod.rs` does.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi64_si128, _mm_cvtsi128_si32, _mm_cvtsi128_si64,
    _mm_packus_epi16, _mm_packus_epi32, _mm_set1_epi32, _mm_srai_epi32, _mm256_add_epi32,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_cvtepu8_epi32, _mm256_extracti128_si256,
    _mm256_mullo_epi32, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_srai_epi32,
};

use crate::preprocess::{
    passes::portable::{self, HALF},
    taps::{PRECISION, Taps},
};

const SHIFT: i32 = PRECISION as i32;

/// Weights of four taps: two taps a vector, each in four lanes.
type Quad = [[i32; 8]; 2];

/// Number of bytes of four pixels.
const QUAD_BYTES: usize = 12;
/// Number of bytes that are read for four pixels.
const READ_BYTES: usize = 16;

/// Implements [`crate::preprocess::passes::HorizontalPass`].
///
/// The sum of a pixel has four lanes: red, green, blue and an unused one. The halves of a vector
/// hold even and odd taps. Up to 12 taps, the common case, the loop over the taps is unrolled.
#[derive(Debug)]
pub(in crate::preprocess) struct HorizontalPass<'a> {
    taps: &'a Taps,
    quads: usize,
    weights: Vec<Quad>,
    /// The row, followed by bytes for taps of weight 0 and for the rest of the last read.
    padded: Vec<u8>,
}

impl<'a> HorizontalPass<'a> {
    pub(super) fn new(taps: &'a Taps) -> Self {
        let quads = taps.count.div_ceil(4);
        let padded = vec![0; 3 * taps.input + QUAD_BYTES * quads + READ_BYTES];
        Self { taps, quads, weights: quads_of(taps, quads), padded }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn scale(&mut self, row: &[u8], out: &mut [u8]) {
        let Self { taps, quads, weights, padded } = self;
        if let Some(whole) = padded.get_mut(..row.len()) {
            whole.copy_from_slice(row);
        }
        let out = out.as_chunks_mut::<3>().0;
        match quads {
            1 => unrolled::<1, 16>(padded, &taps.starts, weights, out),
            2 => unrolled::<2, 28>(padded, &taps.starts, weights, out),
            3 => unrolled::<3, 40>(padded, &taps.starts, weights, out),
            _ => {
                for ((out, &start), weights) in
                    out.iter_mut().zip(&taps.starts).zip(weights.chunks_exact(*quads))
                {
                    *out = pixel(padded.get(3 * start..).unwrap_or_default(), weights);
                }
            }
        }
    }
}

/// Scales one row whose pixels have `QUADS` groups of four taps, in `BYTES` bytes.
#[target_feature(enable = "avx2")]
fn unrolled<const QUADS: usize, const BYTES: usize>(
    row: &[u8],
    starts: &[usize],
    weights: &[Quad],
    out: &mut [[u8; 3]],
) {
    const { assert!(BYTES == QUAD_BYTES * (QUADS - 1) + READ_BYTES) };
    for ((out, &start), weights) in out.iter_mut().zip(starts).zip(weights.as_chunks::<QUADS>().0) {
        if let Some(window) = row.get(3 * start..).and_then(<[u8]>::first_chunk::<BYTES>) {
            *out = pixel(window, weights);
        }
    }
}

/// Returns the sum of the pixels at the beginning of `window` by their `weights`.
#[inline]
#[target_feature(enable = "avx2")]
fn pixel(window: &[u8], weights: &[Quad]) -> [u8; 3] {
    let mut even = _mm256_setzero_si256();
    let mut odd = _mm256_setzero_si256();
    for (quad, &[first, last]) in weights.iter().enumerate() {
        let bytes = window.get(QUAD_BYTES * quad..).and_then(<[u8]>::first_chunk::<READ_BYTES>);
        let Some(&bytes) = bytes else { break };
        let pixels = _mm256_broadcastsi128_si256(bytemuck::must_cast(bytes));
        let product = _mm256_mullo_epi32(_mm256_shuffle_epi8(pixels, spread(0)), bytemuck::must_cast(first));
        even = _mm256_add_epi32(even, product);
        let product = _mm256_mullo_epi32(_mm256_shuffle_epi8(pixels, spread(6)), bytemuck::must_cast(last));
        odd = _mm256_add_epi32(odd, product);
    }
    let sums = _mm256_add_epi32(even, odd);
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let samples = saturated(_mm_srai_epi32::<SHIFT>(_mm_add_epi32(sum, _mm_set1_epi32(HALF))));
    let [r, g, b, _] = _mm_cvtsi128_si32(samples).to_le_bytes();
    [r, g, b]
}

/// Implements [`crate::preprocess::passes::vertical_pass`].
#[target_feature(enable = "avx2")]
pub(super) fn vertical_pass(rows: &[&[u8]], weights: &[i32], out: &mut [u8]) {
    /// Number of columns whose sums stay in registers together.
    const BLOCK: usize = 32;
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let first_of_rest = blocks.len() * BLOCK;
    for (number, block) in blocks.iter_mut().enumerate() {
        let mut sums = [_mm256_set1_epi32(HALF); 4];
        for (row, &weight) in rows.iter().zip(weights) {
            let Some(bytes) = row.get(number * BLOCK..).and_then(<[u8]>::first_chunk::<BLOCK>) else { break };
            let weight = _mm256_set1_epi32(weight);
            for (sum, eight) in sums.iter_mut().zip(bytes.as_chunks::<8>().0) {
                let samples = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*eight)));
                *sum = _mm256_add_epi32(*sum, _mm256_mullo_epi32(samples, weight));
            }
        }
        for (sum, out) in sums.into_iter().zip(block.as_chunks_mut::<8>().0) {
            *out = eight_samples(sum);
        }
    }
    portable::vertical_pass_from(rows, weights, first_of_rest, rest);
}

/// Returns the weights of each output pixel in groups of four taps, `[output, quads]`.
fn quads_of(taps: &Taps, quads: usize) -> Vec<Quad> {
    let mut all = Vec::with_capacity(taps.output * quads);
    for weights in taps.weights.chunks_exact(taps.count) {
        let tap = |at: usize| weights.get(at).copied().unwrap_or(0);
        let pair = |a: i32, b: i32| [a, a, a, a, b, b, b, b];
        let quad = |at: usize| [pair(tap(at), tap(at + 1)), pair(tap(at + 2), tap(at + 3))];
        all.extend((0..quads).map(|number| quad(4 * number)));
    }
    all
}

/// Returns the shuffle that widens the pixel at byte `at` into the lower half and the next pixel
/// into the upper half.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(at: i8) -> __m256i {
    const NONE: i8 = -1;
    let [r, g, b] = [at, at + 1, at + 2];
    let [s, h, c] = [at + 3, at + 4, at + 5];
    #[rustfmt::skip]
    let shuffle = _mm256_setr_epi8(
        r, NONE, NONE, NONE, g, NONE, NONE, NONE, b, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
        s, NONE, NONE, NONE, h, NONE, NONE, NONE, c, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    );
    shuffle
}

/// Clamps four 32-bit integers to 0..=255, into the lowest four bytes.
#[target_feature(enable = "avx2")]
fn saturated(numbers: __m128i) -> __m128i {
    let words = _mm_packus_epi32(numbers, numbers);
    _mm_packus_epi16(words, words)
}

/// Rounds and clamps eight sums to samples.
#[target_feature(enable = "avx2")]
fn eight_samples(sums: __m256i) -> [u8; 8] {
    let numbers = _mm256_srai_epi32::<SHIFT>(sums);
    let words = _mm_packus_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256::<1>(numbers));
    _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes()
}
