use std::{io::Write, sync::Once};

use proptest::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use super::*;
use crate::activation::gelu;

/// The layer, or `None` after a word on standard error, past what tests hold back, that they check nothing.
fn layer(weight: &[f32], bias: &[f32], inputs: usize) -> Option<Int8Linear> {
    let layer = Int8Linear::new(weight, bias, inputs);
    assert_eq!(layer.is_some(), Int8Linear::is_supported());
    if layer.is_none() {
        static SAID: Once = Once::new();
        let mut out = std::io::stderr();
        SAID.call_once(|| writeln!(out, "NOT CHECKED for want of AVX-512 VNNI: products of bytes").unwrap());
    }
    layer
}

/// Rows of very different sizes.
fn rows_of_numbers(rows: usize, columns: usize, seed: usize) -> Vec<f32> {
    let number = |index: usize| (((index + seed) * 7_919) % 1_009) as f32 / 504.0 - 1.0;
    let size = |row: usize| 2f32.powf(5.0 * number(31 * row + 7));
    (0..rows * columns).map(|index| number(index) * size(index / columns)).collect()
}

/// Something is in the scratch from another layer's rows.
fn used_scratch() -> Int8Scratch {
    let mut scratch = Int8Scratch::default();
    if let Some(layer) = layer(&[1.0; 999], &[0.0], 999) {
        layer.forward(&[-1.0; 50 * 999], &mut [0.0; 50], After::Nothing, &mut scratch);
    }
    scratch
}

fn forward(layer: &Int8Linear, input: &[f32], out: &[f32], after: After) -> Vec<f32> {
    let mut out = out.to_vec();
    layer.forward(input, &mut out, after, &mut used_scratch());
    out
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Each row's step, by the plainest of ways.
fn steps(rows: &[f32], columns: usize) -> Vec<f32> {
    let most = |row: &[f32]| row.iter().fold(0f32, |most, number| most.max(number.abs()));
    rows.chunks(columns).map(|row| (most(row) / 127.0).max(f32::MIN_POSITIVE)).collect()
}

/// What the layer should give, one number after another, without what is done to it in the end.
fn expected(input: &[f32], weight: &[f32], bias: &[f32], inputs: usize) -> Vec<f32> {
    let weights: Vec<(Vec<i64>, f32)> = (weight.chunks(inputs).zip(steps(weight, inputs)))
        .map(|(column, step)| {
            (column.iter().map(|weight| (weight / step).round_ties_even() as i64).collect(), step)
        })
        .collect();
    let mut out = Vec::new();
    for (row, row_step) in input.chunks(inputs).zip(steps(input, inputs)) {
        let row: Vec<i64> =
            row.iter().map(|number| (number * (1.0 / row_step)).round_ties_even() as i64).collect();
        for ((column, column_step), &bias) in weights.iter().zip(bias) {
            let sum: i64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
            out.push((sum as f32 * column_step).mul_add(row_step, bias));
        }
    }
    out
}

/// GELU of each number.
struct Gelu<'a>(&'a mut [f32]);

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for number in self.0 {
            *number = simd.reduce_max_f32s(gelu(simd, simd.splat_f32s(*number)));
        }
    }
}

proptest! {
    #[test]
    fn it_gives_what_whole_numbers_say_to_the_bit(rows in 1usize..40, inputs in 1usize..300, outputs in 1usize..100) {
        let (input, weight) = (rows_of_numbers(rows, inputs, 1), rows_of_numbers(outputs, inputs, 2));
        let (bias, before) = (rows_of_numbers(1, outputs, 3), rows_of_numbers(rows, outputs, 4));
        let Some(layer) = layer(&weight, &bias, inputs) else { return Ok(()) };
        let expected = expected(&input, &weight, &bias, inputs);
        prop_assert_eq!(bits(&forward(&layer, &input, &before, After::Nothing)), bits(&expected));
        let sums: Vec<f32> = expected.iter().zip(&before).map(|(new, old)| new + old).collect();
        prop_assert_eq!(bits(&forward(&layer, &input, &before, After::Add)), bits(&sums));
        let mut gelus = expected;
        Arch::new().dispatch(Gelu(&mut gelus));
        prop_assert_eq!(bits(&forward(&layer, &input, &before, After::Gelu)), bits(&gelus));
    }

    #[test]
    fn a_product_is_off_by_no_more_than_rounding_to_8_bits_can_make_it(
        rows in 1usize..40, inputs in 1usize..300, outputs in 1usize..100, seed in 0usize..1_009,
    ) {
        let (input, weight) = (rows_of_numbers(rows, inputs, seed), rows_of_numbers(outputs, inputs, 2));
        let bias = rows_of_numbers(1, outputs, 3);
        let Some(layer) = layer(&weight, &bias, inputs) else { return Ok(()) };
        let found = forward(&layer, &input, &vec![0.0; rows * outputs], After::Nothing);
        let (row_steps, column_steps) = (steps(&input, inputs), steps(&weight, inputs));
        for (place, found) in found.into_iter().enumerate() {
            let (row, column) = (place / outputs, place % outputs);
            let [row_step, column_step] = [row_steps[row], column_steps[column]].map(f64::from);
            let (mut exact, mut bound) = (f64::from(bias[column]), 0.0);
            for (&a, &b) in input[row * inputs..][..inputs].iter().zip(&weight[column * inputs..][..inputs]) {
                let (a, b) = (f64::from(a), f64::from(b));
                exact += a * b;
                // Half a step of either factor.
                bound += (a.abs() * column_step + b.abs() * row_step) / 2.0 + row_step * column_step / 4.0;
            }
            // And what f32 loses.
            let bound = bound * (1.0 + 1e-5) + exact.abs() * 1e-6;
            prop_assert!((f64::from(found) - exact).abs() <= bound, "{found} for {exact}, more than {bound} off");
        }
    }

    #[test]
    fn a_row_is_the_same_to_the_bit_in_any_company(rows in 1usize..40, row in 0usize..40, outputs in 1usize..70) {
        let (inputs, row) = (24, row % rows);
        let (input, weight) = (rows_of_numbers(rows, inputs, 4), rows_of_numbers(outputs, inputs, 5));
        let Some(layer) = layer(&weight, &rows_of_numbers(1, outputs, 6), inputs) else { return Ok(()) };
        let out = vec![0.0; rows * outputs];
        let together = forward(&layer, &input, &out, After::Gelu);
        let alone = forward(&layer, &input[row * inputs..][..inputs], &out[..outputs], After::Gelu);
        prop_assert_eq!(bits(&alone), bits(&together[row * outputs..][..outputs]));
    }
}

#[test]
fn the_largest_sums_fit() {
    // On the way, where inputs have 128 added, those of the last pass 32 bits.
    for inputs in [4, 3_072, 70_000, MAX_INPUTS] {
        let Some(layer) = layer(&[vec![1.0; inputs], vec![-1.0; inputs]].concat(), &[0.0; 2], inputs) else {
            return;
        };
        for sign in [1.0, -1.0] {
            let found = forward(&layer, &vec![sign; inputs], &[0.0; 2], After::Nothing);
            for (found, expected) in found.into_iter().zip([sign, -sign]) {
                assert!((found / inputs as f32 - expected).abs() < 1e-6, "{found} of {inputs}");
            }
        }
    }
}

#[test]
fn what_is_no_number_makes_its_row_none_and_harms_no_other() {
    let (rows, inputs, outputs) = (9, 17, 33);
    let weight = rows_of_numbers(outputs, inputs, 1);
    let Some(layer) = layer(&weight, &rows_of_numbers(1, outputs, 2), inputs) else { return };
    let (input, before) = (rows_of_numbers(rows, inputs, 3), vec![0.0; rows * outputs]);
    for after in [After::Nothing, After::Gelu, After::Add] {
        let unharmed = forward(&layer, &input, &before, after);
        for (bad, place) in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
            .into_iter()
            .flat_map(|bad| [0, 3, inputs - 1].map(|place| (bad, place)))
        {
            let mut input = input.clone();
            input[4 * inputs + place] = bad;
            let found = forward(&layer, &input, &before, after);
            for (row, (found, unharmed)) in found.chunks(outputs).zip(unharmed.chunks(outputs)).enumerate() {
                if row == 4 {
                    assert!(found.iter().all(|number| number.is_nan()), "{bad} at {place}, {after:?}");
                } else {
                    assert_eq!(bits(found), bits(unharmed), "row {row}, {bad} at {place}, {after:?}");
                }
            }
        }
    }
}

#[test]
fn a_weight_that_is_no_number_makes_its_column_none() {
    for bad in [f32::NAN, f32::INFINITY] {
        let Some(layer) = layer(&[1.0, 2.0, bad, 0.0, 3.0, 4.0], &[0.0; 3], 2) else { return };
        let found = forward(&layer, &[1.0, 1.0], &[0.0; 3], After::Nothing);
        assert_eq!([false, true, false], [0, 1, 2].map(|column| found[column].is_nan()));
    }
}

#[test]
fn a_row_of_zeros_or_next_to_them_is_the_bias() {
    let (inputs, bias) = (40, rows_of_numbers(1, 35, 2));
    let Some(layer) = layer(&rows_of_numbers(35, inputs, 1), &bias, inputs) else { return };
    for number in [0.0, -0.0, f32::from_bits(1)] {
        let found = forward(&layer, &vec![number; 3 * inputs], &[1.0; 3 * 35], After::Nothing);
        found.chunks(35).for_each(|row| assert_eq!(row, bias));
    }
}

#[test]
fn numbers_whose_inverse_step_would_be_infinite_are_rounded_as_others_are() {
    let Some(layer) = layer(&[1.0; 40], &[0.0], 40) else { return };
    for number in [1e-37, -1e-37] {
        let found = forward(&layer, &[number; 40], &[0.0], After::Nothing);
        assert!((found[0] / (40.0 * number) - 1.0).abs() < 0.1, "{found:?}");
    }
}

#[test]
fn no_row_is_made_of_half_a_row_and_none_is_no_harm() {
    let Some(layer) = layer(&[1.0; 6], &[0.5; 3], 2) else { return };
    assert_eq!((layer.inputs(), layer.outputs()), (2, 3));
    let found = forward(&layer, &[0.0; 5], &[9.0; 10], After::Nothing);
    assert_eq!(found, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 9.0, 9.0, 9.0, 9.0]);
    assert_eq!(forward(&layer, &[0.0; 8], &[9.0; 5], After::Nothing), [0.5, 0.5, 0.5, 9.0, 9.0]);
    assert_eq!(forward(&layer, &[], &[9.0], After::Nothing), [9.0]);
}

#[test]
fn a_layer_of_too_few_or_no_or_too_many_numbers_is_refused() {
    assert!(Int8Linear::new(&[0.0; 15], &[0.0; 2], 8).is_none());
    assert!(Int8Linear::new(&[], &[], 8).is_none());
    assert!(Int8Linear::new(&[], &[0.0], 0).is_none());
    assert!(Int8Linear::new(&vec![0.0; MAX_INPUTS + 1], &[0.0], MAX_INPUTS + 1).is_none());
}

/// So that no other test checks nothing on such a processor.
#[cfg(target_os = "linux")]
#[test]
fn it_is_supported_where_the_kernel_knows_the_instructions() {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let known = |name: &str| processor.split_whitespace().any(|word| word == name);
    let names = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"];
    assert_eq!(Int8Linear::is_supported(), names.into_iter().all(known));
}
