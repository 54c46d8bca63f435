use proptest::prelude::*;
use pulp::{Scalar, Simd};

use super::{
    Heads, MatrixRows,
    packed::PackedKernel,
    rounded::{self, AttendRounded, PackRounded},
    single_query::SingleQueryKernel,
};
use crate::{
    aligned_numbers::AlignedNumbers,
    epilogue::Epilogue,
    linear::{CpuLinear, layer_input::LayerInput, number_format::NumberFormat},
    tiles::kernel::Bf16Kernel,
    vector_len::for_each_instruction_set,
};

const HEADS: usize = 3;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| (((index + seed) * 7_919) % 1_009) as f32 / 252.0 - 2.0).collect()
}

/// Computes attention of `[queries, width]` over `[tokens, 2 * width]` in double precision.
fn reference(queries: &[f32], key_values: &[f32], head_dim: usize) -> Vec<f64> {
    let width = HEADS * head_dim;
    let mut out = Vec::new();
    for query in queries.chunks(width) {
        for head in 0..HEADS {
            let part = |row: &[f32], first: usize| -> Vec<f64> {
                row[first + head * head_dim..][..head_dim].iter().map(|&number| f64::from(number)).collect()
            };
            let query = part(query, 0);
            let weights: Vec<f64> = key_values
                .chunks(2 * width)
                .map(|row| query.iter().zip(part(row, 0)).map(|(q, k)| q * k).sum::<f64>())
                .map(|score| (score / (head_dim as f64).sqrt()).exp())
                .collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..head_dim).map(|column| {
                let values = key_values.chunks(2 * width).map(|row| part(row, width)[column]);
                values.zip(&weights).map(|(value, weight)| value * weight / total).sum::<f64>()
            }));
        }
    }
    out
}

/// Returns scratch memory that another call has written.
fn used_memory() -> AlignedNumbers {
    let mut memory = AlignedNumbers::default();
    memory.take(1 << 16).fill(f32::NAN);
    memory
}

/// Computes attention of `[queries, width]` over `[tokens, 2 * width]` with each instruction set.
///
/// Each element holds the result of the packed kernel and that of the single-query kernel.
fn attend(heads: Heads, queries: &[f32], key_values: &[f32]) -> Vec<[Vec<f32>; 2]> {
    let width = heads.width();
    let tokens = key_values.len() / (2 * width);
    let key_values = MatrixRows::new(key_values, 2 * width);
    let (mut results, mut scratch) = (Vec::new(), used_memory());
    for_each_instruction_set!(|simd, vector_len| {
        let mut packed = vec![f32::NAN; heads.packed_len_for(tokens, vector_len)];
        heads.pack_for(vector_len, key_values, key_values.skip_columns(width), tokens, &mut packed);
        let (mut out, mut single_out) = (vec![f32::NAN; queries.len()], vec![f32::NAN; queries.len()]);
        let rows = MatrixRows::new(queries, width);
        let (packed, scratch) = (&packed, &mut scratch);
        Simd::vectorize(simd, PackedKernel { heads, queries: rows, packed, tokens, out: &mut out, scratch });
        for (query, out) in queries.chunks(width).zip(single_out.chunks_mut(width)) {
            let scratch = &mut *scratch;
            Simd::vectorize(simd, SingleQueryKernel { heads, query, key_values, out, scratch });
        }
        results.push([out, single_out]);
    });
    results
}

proptest! {
    #[test]
    fn attention_matches_double_precision(
        queries in 1usize..30,
        tokens in 1usize..70,
        head_dim in 1usize..70,
    ) {
        let heads = Heads::new(HEADS, head_dim);
        let width = heads.width();
        let (query, key_values) = (numbers(queries * width, 1), numbers(tokens * 2 * width, 2));
        let expected = reference(&query, &key_values, head_dim);
        for actual in attend(heads, &query, &key_values).iter().flatten() {
            for (&actual, expected) in actual.iter().zip(&expected) {
                prop_assert!((f64::from(actual) - expected).abs() < 2e-5, "{actual} for {expected}");
            }
        }
    }

    #[test]
    fn batched_query_is_bit_identical_to_single_query(
        queries in 1usize..30,
        query in 0usize..30,
        tokens in 1usize..40,
        head_dim in 1usize..40,
    ) {
        let (heads, query) = (Heads::new(HEADS, head_dim), query % queries);
        let width = heads.width();
        let (numbers, key_values) = (numbers(queries * width, 3), numbers(tokens * 2 * width, 4));
        let batched = attend(heads, &numbers, &key_values);
        let single = attend(heads, &numbers[query * width..][..width], &key_values);
        for ([batched, _], [single, _]) in batched.iter().zip(&single) {
            prop_assert_eq!(&single[..], &batched[query * width..][..width]);
        }
    }
}

/// Computes attention rounded to bf16, in each way that this processor has.
fn attend_rounded(heads: Heads, queries: &[f32], key_values: &[f32]) -> Vec<Vec<f32>> {
    let (width, mut results) = (heads.width(), Vec::new());
    let tokens = key_values.len() / (2 * width);
    let keys = MatrixRows::new(key_values, 2 * width);
    for kernel in Bf16Kernel::new().into_iter().flat_map(|all| [all, all.without_amx()]) {
        let mut packed = vec![f32::NAN; rounded::packed_len(&heads, tokens)];
        let values = keys.skip_columns(width);
        let pack = PackRounded { kernel, heads, keys, values, tokens, packed: &mut packed };
        kernel.vectorize(pack);
        let (mut out, scratch) = (vec![f32::NAN; queries.len()], &mut used_memory());
        let (packed, queries) = (&packed[..], MatrixRows::new(queries, width));
        let attend = AttendRounded { kernel, heads, queries, packed, tokens, out: &mut out, scratch };
        kernel.vectorize(attend);
        results.push(out);
    }
    results
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rounded_attention_is_near_double_precision(
        queries in 1usize..70,
        tokens in 1usize..150,
        head_dim in 1usize..70,
    ) {
        let heads = Heads::new(HEADS, head_dim);
        let width = heads.width();
        let (query, key_values) = (numbers(queries * width, 1), numbers(tokens * 2 * width, 2));
        let expected = reference(&query, &key_values, head_dim);
        for actual in attend_rounded(heads, &query, &key_values) {
            for (&actual, expected) in actual.iter().zip(&expected) {
                // Keys and queries have 8 bits, so a score of this size is off by 0.1 at most.
                prop_assert!((f64::from(actual) - expected).abs() < 0.2, "{actual} for {expected}");
            }
            let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
            let error = squares(&mut actual.iter().zip(&expected).map(|(&a, b)| f64::from(a) - b));
            let size = squares(&mut expected.iter().copied());
            prop_assert!(error <= 2e-4 * size + 1e-9, "error {error} of {size}");
        }
    }

    #[test]
    fn rounded_query_is_bit_identical_in_a_batch(
        queries in 1usize..70,
        query in 0usize..70,
        tokens in 1usize..80,
    ) {
        let (heads, query) = (Heads::new(HEADS, 40), query % queries);
        let width = heads.width();
        let (numbers, key_values) = (numbers(queries * width, 3), numbers(tokens * 2 * width, 4));
        let batched = attend_rounded(heads, &numbers, &key_values);
        let single = attend_rounded(heads, &numbers[query * width..][..width], &key_values);
        for (batched, single) in batched.iter().zip(&single) {
            prop_assert_eq!(&single[..], &batched[query * width..][..width]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn projected_rows_have_the_attention_of_f32_rows(
        rows in 1usize..70,
        first in 0usize..70,
        head_dim in 1usize..70,
        of_heads in prop::sample::select(vec![NumberFormat::F32, NumberFormat::Bf16]),
        of_linear in prop::sample::select(vec![NumberFormat::F32, NumberFormat::Bf16, NumberFormat::Int8]),
    ) {
        let (heads, first) = (Heads::new(HEADS, head_dim).with_format(of_heads), first % rows);
        let (inputs, width) = (24, heads.width());
        let (weight, bias) = (numbers(3 * width * inputs, 1), numbers(3 * width, 2));
        if let Some(linear) = CpuLinear::with_format(&weight, &bias, inputs, of_linear) {
            let (mut input, mut in_f32) = (LayerInput::default(), vec![0.0; rows * 3 * width]);
            linear.read_input(&numbers(rows * inputs, 3), &mut input);
            linear.forward_input(&input, &mut in_f32, Epilogue::Store);
            let mut memory = used_memory();
            let projected = memory.take(rows * heads.row_len(3 * width));
            heads.project(&linear, &input, projected);
            let both = [MatrixRows::new(&in_f32, 3 * width), heads.rows(projected, 3 * width)];
            let [expected, actual] = both.map(|queries| {
                let keys = queries.skip_columns(width);
                let mut packed = vec![f32::NAN; heads.packed_len(rows)];
                heads.pack(keys, keys.skip_columns(width), rows, &mut packed);
                let mut out = vec![f32::NAN; (rows - first) * width];
                heads.attend(queries.skip_rows(first), &packed, rows, &mut out, &mut used_memory());
                out
            });
            prop_assert!(expected.iter().all(|number| number.is_finite()));
            prop_assert_eq!(actual, expected);
        }
    }
}

/// Without a subtracted maximum, the weights of these scores would all be 0.
#[test]
fn very_negative_scores_outweigh_padding() {
    let mut key_values = [-40.0; 64];
    key_values[32..].fill(5.0);
    let (heads, queries) = (Heads::new(1, 32), [40.0; 32]);
    for out in attend(heads, &queries, &key_values).iter().flatten() {
        assert_eq!(out[..], [5.0; 32]);
    }
    for out in attend_rounded(heads, &queries, &key_values) {
        assert!(out.iter().all(|value| (value - 5.0).abs() < 0.02), "{out:?}");
    }
}

#[test]
fn nan_query_affects_only_its_row() {
    let mut queries = numbers(2 * 32, 2);
    queries[3] = f32::NAN;
    for format in [NumberFormat::F32, NumberFormat::Bf16] {
        let (heads, key_values) = (Heads::new(1, 32).with_format(format), numbers(5 * 2 * 32, 1));
        let mut packed = vec![0.0; heads.packed_len(5)];
        let key_values = MatrixRows::new(&key_values, 64);
        heads.pack(key_values, key_values.skip_columns(32), 5, &mut packed);
        let (queries, mut out) = (MatrixRows::new(&queries, 32), vec![0.0; 64]);
        heads.attend(queries, &packed, 5, &mut out, &mut AlignedNumbers::default());
        assert!(out[..32].iter().all(|value| value.is_nan()));
        assert!(out[32..].iter().all(|value| value.is_finite()));
    }
}

#[test]
fn attention_over_no_tokens_is_zero() {
    for out in attend(Heads::new(1, 2), &[1.0, 2.0], &[]).iter().flatten() {
        assert_eq!(out[..], [0.0; 2]);
    }
    for out in attend_rounded(Heads::new(1, 2), &[1.0, 2.0], &[]) {
        assert_eq!(out[..], [0.0; 2]);
    }
}
