use proptest::prelude::*;
use pulp::{Scalar, Simd};

use super::{Heads, Rows, packed::Attend, single_query::AttendOne};
use crate::packed_panels::on_every_kind_of_vectors;

const HEADS: usize = 3;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| (((index + seed) * 7_919) % 1_009) as f32 / 252.0 - 2.0).collect()
}

/// Attention in double precision, of `[queries, width]` over `[tokens, 2 * width]`.
fn expected(queries: &[f32], key_values: &[f32], head_dim: usize) -> Vec<f64> {
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
            out.extend((0..head_dim).map(|place| {
                let values = key_values.chunks(2 * width).map(|row| part(row, width)[place]);
                values.zip(&weights).map(|(value, weight)| value * weight / total).sum::<f64>()
            }));
        }
    }
    out
}

/// Attention of `[queries, width]` over `[tokens, 2 * width]` on each kind of vectors that this processor has: all queries at
/// once, and one by one.
fn attend(heads: Heads, queries: &[f32], key_values: &[f32]) -> Vec<[Vec<f32>; 2]> {
    let width = heads.width();
    let (key_values, tokens) =
        (Rows { numbers: key_values, stride: 2 * width }, key_values.len() / (2 * width));
    let (mut found, mut scratch) = (Vec::new(), vec![7.0; 3]);
    on_every_kind_of_vectors!(|simd, lanes| {
        let mut packed = vec![f32::NAN; heads.packed_len_for(tokens, lanes)];
        heads.pack_for(lanes, key_values, key_values.from(width), tokens, &mut packed);
        let (mut out, mut ones) = (vec![0.0; queries.len()], vec![0.0; queries.len()]);
        let rows = Rows { numbers: queries, stride: width };
        let (packed, scratch) = (&packed, &mut scratch);
        Simd::vectorize(simd, Attend { heads, queries: rows, packed, tokens, out: &mut out, scratch });
        for (query, out) in queries.chunks(width).zip(ones.chunks_mut(width)) {
            Simd::vectorize(simd, AttendOne { heads, query, key_values, out, scratch: &mut *scratch });
        }
        found.push([out, ones]);
    });
    found
}

proptest! {
    #[test]
    fn it_is_what_double_precision_says(queries in 1usize..30, tokens in 1usize..70, head_dim in 1usize..70) {
        let heads = Heads::new(HEADS, head_dim);
        let width = heads.width();
        let (query, key_values) = (numbers(queries * width, 1), numbers(tokens * 2 * width, 2));
        let expected = expected(&query, &key_values, head_dim);
        for found in attend(heads, &query, &key_values).iter().flatten() {
            for (&found, expected) in found.iter().zip(&expected) {
                prop_assert!((f64::from(found) - expected).abs() < 2e-5, "{found} for {expected}");
            }
        }
    }

    #[test]
    fn a_query_is_the_same_to_the_bit_in_any_company(
        queries in 1usize..30,
        query in 0usize..30,
        tokens in 1usize..40,
        head_dim in 1usize..40,
    ) {
        let (heads, query) = (Heads::new(HEADS, head_dim), query % queries);
        let width = heads.width();
        let (numbers, key_values) = (numbers(queries * width, 3), numbers(tokens * 2 * width, 4));
        let together = attend(heads, &numbers, &key_values);
        let alone = attend(heads, &numbers[query * width..][..width], &key_values);
        for ([together, _], [alone, _]) in together.iter().zip(&alone) {
            prop_assert_eq!(&alone[..], &together[query * width..][..width]);
        }
    }
}

#[test]
fn scores_far_below_0_still_weigh_against_one_another_and_not_against_padding() {
    let mut key_values = [-40.0; 64];
    key_values[32..].fill(5.0);
    for found in attend(Heads::new(1, 32), &[40.0; 32], &key_values).iter().flatten() {
        assert_eq!(found[..], [5.0; 32]);
    }
}

#[test]
fn a_query_that_is_no_number_gives_none_and_harms_no_other() {
    let mut queries = numbers(2 * 32, 2);
    queries[3] = f32::NAN;
    let mut packed = vec![0.0; Heads::new(1, 32).packed_len(5)];
    let (heads, key_values) = (Heads::new(1, 32), numbers(5 * 2 * 32, 1));
    let key_values = Rows { numbers: &key_values, stride: 64 };
    heads.pack(key_values, key_values.from(32), 5, &mut packed);
    let (queries, mut out) = (Rows { numbers: &queries, stride: 32 }, vec![0.0; 64]);
    heads.attend(queries, &packed, 5, &mut out, &mut Vec::new());
    assert!(out[..32].iter().all(|number| number.is_nan()));
    assert!(out[32..].iter().all(|number| number.is_finite()));
}

#[test]
fn over_no_token_it_is_0() {
    for found in attend(Heads::new(1, 2), &[1.0, 2.0], &[]).iter().flatten() {
        assert_eq!(found[..], [0.0; 2]);
    }
}
