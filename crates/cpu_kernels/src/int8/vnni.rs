//! Products of 8-bit integers on processors with AVX-512 VNNI.
//!
//! One of its instructions multiplies 64 unsigned bytes by as many signed ones and adds four products each to 16 sums in 32 bits.
//! The loop is that of [`crate::microkernel`]. (A closure would be compiled without these instructions, as would a function without
//! the attribute unless it is inlined.)
#![expect(
    unsafe_code,
    reason = "calls a safe function that is compiled for what this processor was asked for"
)]

use std::arch::x86_64::{
    __m512, __m512i, _mm_add_epi8, _mm_set1_epi8, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_cvtsepi32_epi8, _mm512_dpbusd_epi32, _mm512_max_epi32, _mm512_mul_ps, _mm512_reduce_max_epi32,
    _mm512_set1_epi32, _mm512_set1_ps,
};

use bytemuck::{cast_slice, must_cast};
use pulp::{Simd, f32x16, x86::V4};

use crate::{
    int8::{GROUP, INPUT_ZERO, Int8Linear, Int8Scratch, STEP, VECTORS, WIDTH, step_of},
    linear::After,
    microkernel::{Finish, runs, with_rows, write_row},
};

/// The bytes of a row's inputs, four of a group in one number.
type Groups = [[i32; STEP]];

/// For each group of inputs, two vectors of 16 columns with four weights each.
type Panel = [[[__m512i; VECTORS]; STEP]];

/// The proof that this processor has what this module is compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni(V4);

impl Vnni {
    pub(crate) fn try_new() -> Option<Self> {
        V4::try_new().filter(|_| is_x86_feature_detected!("avx512vnni")).map(Self)
    }

    /// What [`Int8Linear::forward`] says.
    pub(crate) fn forward(
        self,
        layer: &Int8Linear,
        input: &[f32],
        out: &mut [f32],
        after: After,
        scratch: &mut Int8Scratch,
    ) {
        // SAFETY: only `try_new` makes a `Vnni`. It asks for AVX-512 VNNI, and `V4` for the others.
        unsafe { forward(self.0, layer, input, out, after, scratch) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn forward(
    simd: V4,
    layer: &Int8Linear,
    input: &[f32],
    out: &mut [f32],
    after: After,
    scratch: &mut Int8Scratch,
) {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let rows = (input.len() / inputs).min(out.len() / outputs);
    let bytes = inputs.next_multiple_of(GROUP * STEP);
    let (rounded, row_steps) = scratch.room(rows, bytes);
    let places = rounded.chunks_exact_mut(bytes).zip(&mut *row_steps);
    for (row, (rounded, step)) in input.chunks_exact(inputs).zip(places) {
        *step = round_row(row, rounded);
    }
    let steps = bytes / GROUP / STEP;
    let rounded: &Groups = cast_slice::<u8, i32>(rounded).as_chunks().0;
    let panels = layer.weight.as_others().as_chunks().0.as_chunks().0.chunks_exact(steps);
    let starts = layer.starts.as_others().as_chunks().0;
    let scales = layer.steps.numbers().chunks_exact(WIDTH).zip(layer.bias.numbers().chunks_exact(WIDTH));
    for (number, ((panel, &start), (steps_of_columns, bias))) in panels.zip(starts).zip(scales).enumerate() {
        let first = number * WIDTH;
        let columns = Columns { panel, start, steps: steps_of_columns, bias, first, outputs, after };
        for (first, run) in runs::<V4>(rows) {
            let (Some(rounded), Some(row_steps), Some(out)) =
                (rounded.get(first * steps..), row_steps.get(first..), out.get_mut(first * outputs..))
            else {
                return;
            };
            with_rows!(run, write_tile(simd, rounded, row_steps, columns, out));
        }
    }
}

/// Rounds `row` to whole steps, with [`INPUT_ZERO`] for 0; gives the step.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn round_row(row: &[f32], rounded: &mut [u8]) -> f32 {
    let (vectors, rest) = row.as_chunks();
    let mut last = [0.0; 16];
    for (place, &number) in last.iter_mut().zip(rest) {
        *place = number;
    }
    // Numbers without their signs are in the order of their bits, and what is none is above all.
    let magnitude = _mm512_set1_epi32(i32::MAX);
    let mut most = _mm512_and_si512(must_cast(last), magnitude);
    for &vector in vectors {
        most = _mm512_max_epi32(most, _mm512_and_si512(must_cast::<[f32; 16], _>(vector), magnitude));
    }
    let step = step_of(f32::from_bits(_mm512_reduce_max_epi32(most).cast_unsigned()));
    let per_step = _mm512_set1_ps(1.0 / step);
    let mut places = rounded.as_chunks_mut().0.iter_mut();
    for (&vector, place) in vectors.iter().zip(&mut places) {
        *place = round(must_cast(vector), per_step);
    }
    if let Some(place) = places.next() {
        *place = round(must_cast(last), per_step);
    }
    step
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn round(numbers: __m512, per_step: __m512) -> [u8; 16] {
    let whole = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(numbers, per_step)));
    must_cast(_mm_add_epi8(whole, _mm_set1_epi8(INPUT_ZERO.cast_signed())))
}

/// A panel of columns, and where they go.
#[derive(Clone, Copy)]
struct Columns<'a> {
    panel: &'a Panel,
    /// What the sum of each begins with.
    start: [__m512i; VECTORS],
    /// What 1 stands for in each.
    steps: &'a [f32],
    bias: &'a [f32],
    /// The first of them.
    first: usize,
    /// Numbers of a row.
    outputs: usize,
    after: After,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn write_tile<const ROWS: usize>(
    simd: V4,
    rounded: &Groups,
    row_steps: &[f32],
    columns: Columns<'_>,
    out: &mut [f32],
) {
    let mut rows: [&Groups; ROWS] = [&[]; ROWS];
    let mut rest = rounded;
    // Not by `chunks_exact`, with which all are scattered at once, the slowest of instructions.
    for row in &mut rows {
        let Some((groups, others)) = rest.split_at_checked(columns.panel.len()) else { return };
        (*row, rest) = (groups, others);
    }
    write_rows(simd, &tile(rows, columns.panel, columns.start), row_steps, columns, out);
}

/// The sums of `rows` times the columns of `panel`, on top of `start`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn tile<const ROWS: usize>(
    rows: [&Groups; ROWS],
    panel: &Panel,
    start: [__m512i; VECTORS],
) -> [[__m512i; VECTORS]; ROWS] {
    let mut sums = [start; ROWS];
    for (step, weights) in panel.iter().enumerate() {
        let mut inputs = [&[0; STEP]; ROWS];
        for (input, row) in inputs.iter_mut().zip(rows) {
            let Some(groups) = row.get(step) else { return sums };
            *input = groups;
        }
        for (place, weights) in weights.iter().enumerate() {
            for (sums, input) in sums.iter_mut().zip(inputs) {
                let Some(&group) = input.get(place) else { continue };
                let group = _mm512_set1_epi32(group);
                for (sum, &weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, group, weights);
                }
            }
        }
    }
    sums
}

/// Writes what becomes of the sums of some rows. (Once for any number of rows: it is long, and registers are full either way.)
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn write_rows(
    simd: V4,
    sums: &[[__m512i; VECTORS]],
    row_steps: &[f32],
    columns: Columns<'_>,
    out: &mut [f32],
) {
    let rows = sums.iter().zip(row_steps).zip(out.chunks_exact_mut(columns.outputs));
    for ((&[first, second], &step), out) in rows {
        let sums = [must_cast(_mm512_cvtepi32_ps(first)), must_cast(_mm512_cvtepi32_ps(second))];
        write_row(simd, sums, out.get_mut(columns.first..).unwrap_or_default(), Row { step, columns });
    }
}

/// What a row's sums stand for.
#[derive(Clone, Copy)]
struct Row<'a> {
    /// What 1 stands for in the row.
    step: f32,
    columns: Columns<'a>,
}

impl Finish<V4> for Row<'_> {
    #[inline(always)]
    fn finish(self, simd: V4, number: usize, sum: f32x16, here: &[f32]) -> f32x16 {
        let Columns { steps, bias, after, .. } = self.columns;
        let (steps, biases) = (V4::as_simd_f32s(steps).0, V4::as_simd_f32s(bias).0);
        let (Some(&steps), Some(&bias)) = (steps.get(number), biases.get(number)) else { return sum };
        let product = simd.mul_f32s(sum, steps);
        after.finish(simd, simd.mul_add_f32s(product, simd.splat_f32s(self.step), bias), here)
    }
}
