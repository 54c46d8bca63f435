use std::{io::Write, sync::Once};

use proptest::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use super::{constants::MAX_INPUTS, *};
use crate::activation::gelu;

/// Creates a layer. Returns `None` if the processor lacks AVX-512 VNNI.
///
/// A line on standard error, which the test harness does not capture, then reports the skipped
/// check.
fn layer(weight: &[f32], bias: &[f32], inputs: usize) -> Option<CpuInt8Linear> {
    let layer = CpuInt8Linear::new(weight, bias, inputs);
    assert_eq!(layer.is_some(), CpuInt8Linear::is_supported());
    if layer.is_none() {
        static REPORTED: Once = Once::new();
        let mut out = std::io::stderr();
        REPORTED.call_once(|| writeln!(out, "int8 tests skipped: the processor lacks AVX-512 VNNI").unwrap());
    }
    layer
}

/// Returns rows of very different magnitudes.
fn rows_of_numbers(rows: usize, columns: usize, seed: usize) -> Vec<f32> {
    let number = |index: usize| (((index + seed) * 7_919) % 1_009) as f32 / 504.0 - 1.0;
    let size = |row: usize| 2f32.powf(5.0 * number(31 * row + 7));
    (0..rows * columns).map(|index| number(index) * size(index / columns)).collect()
}

/// Returns a scratch that holds the rows of another layer.
fn used_scratch() -> Int8Scratch {
    let mut scratch = Int8Scratch::default();
    if let Some(layer) = layer(&[1.0; 999], &[0.0], 999) {
        layer.forward(&[-1.0; 50 * 999], &mut [0.0; 50], Epilogue::Store, &mut scratch);
    }
    scratch
}

fn forward(layer: &CpuInt8Linear, input: &[f32], out: &[f32], epilogue: Epilogue) -> Vec<f32> {
    let mut out = out.to_vec();
    layer.forward(input, &mut out, epilogue, &mut used_scratch());
    out
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Returns the scale of each row, computed without vectors.
fn scales(rows: &[f32], columns: usize) -> Vec<f32> {
    let max = |row: &[f32]| row.iter().fold(0f32, |max, number| max.max(number.abs()));
    rows.chunks(columns).map(|row| (max(row) / 127.0).max(f32::MIN_POSITIVE)).collect()
}

/// Computes the output in integers, without an epilogue.
fn reference(input: &[f32], weight: &[f32], bias: &[f32], inputs: usize) -> Vec<f32> {
    let weights: Vec<(Vec<i64>, f32)> = (weight.chunks(inputs).zip(scales(weight, inputs)))
        .map(|(column, scale)| {
            (column.iter().map(|weight| (weight / scale).round_ties_even() as i64).collect(), scale)
        })
        .collect();
    let mut out = Vec::new();
    for (row, row_scale) in input.chunks(inputs).zip(scales(input, inputs)) {
        let row: Vec<i64> =
            row.iter().map(|number| (number * (1.0 / row_scale)).round_ties_even() as i64).collect();
        for ((column, column_scale), &bias) in weights.iter().zip(bias) {
            let sum: i64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
            out.push((sum as f32 * column_scale).mul_add(row_scale, bias));
        }
    }
    out
}

/// Replaces each number by its GELU.
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
    fn products_are_bit_identical_to_integer_reference(
        rows in 1usize..40,
        inputs in 1usize..300,
        outputs in 1usize..100,
    ) {
        let (input, weight) = (rows_of_numbers(rows, inputs, 1), rows_of_numbers(outputs, inputs, 2));
        let (bias, before) = (rows_of_numbers(1, outputs, 3), rows_of_numbers(rows, outputs, 4));
        let Some(layer) = layer(&weight, &bias, inputs) else { return Ok(()) };
        let expected = reference(&input, &weight, &bias, inputs);
        prop_assert_eq!(bits(&forward(&layer, &input, &before, Epilogue::Store)), bits(&expected));
        let sums: Vec<f32> = expected.iter().zip(&before).map(|(new, old)| new + old).collect();
        prop_assert_eq!(bits(&forward(&layer, &input, &before, Epilogue::Add)), bits(&sums));
        let mut gelus = expected;
        Arch::new().dispatch(Gelu(&mut gelus));
        prop_assert_eq!(bits(&forward(&layer, &input, &before, Epilogue::Gelu)), bits(&gelus));
    }

    #[test]
    fn product_error_is_within_quantization_bound(
        rows in 1usize..40,
        inputs in 1usize..300,
        outputs in 1usize..100,
        seed in 0usize..1_009,
    ) {
        let (input, weight) = (rows_of_numbers(rows, inputs, seed), rows_of_numbers(outputs, inputs, 2));
        let bias = rows_of_numbers(1, outputs, 3);
        let Some(layer) = layer(&weight, &bias, inputs) else { return Ok(()) };
        let actual = forward(&layer, &input, &vec![0.0; rows * outputs], Epilogue::Store);
        let (row_scales, column_scales) = (scales(&input, inputs), scales(&weight, inputs));
        for (index, actual) in actual.into_iter().enumerate() {
            let (row, column) = (index / outputs, index % outputs);
            let [row_scale, column_scale] = [row_scales[row], column_scales[column]].map(f64::from);
            let (mut exact, mut bound) = (f64::from(bias[column]), 0.0);
            for (&a, &b) in input[row * inputs..][..inputs].iter().zip(&weight[column * inputs..][..inputs]) {
                let (a, b) = (f64::from(a), f64::from(b));
                exact += a * b;
                // Each factor is off by half a scale unit at most.
                bound += (a.abs() * column_scale + b.abs() * row_scale) / 2.0 + row_scale * column_scale / 4.0;
            }
            // The rounding errors of f32.
            let bound = bound * (1.0 + 1e-5) + exact.abs() * 1e-6;
            let error = (f64::from(actual) - exact).abs();
            prop_assert!(error <= bound, "{actual} for {exact}: error {error}, bound {bound}");
        }
    }

    #[test]
    fn batched_row_is_bit_identical_to_single_row(
        rows in 1usize..40,
        row in 0usize..40,
        outputs in 1usize..70,
    ) {
        let (inputs, row) = (24, row % rows);
        let (input, weight) = (rows_of_numbers(rows, inputs, 4), rows_of_numbers(outputs, inputs, 5));
        let Some(layer) = layer(&weight, &rows_of_numbers(1, outputs, 6), inputs) else { return Ok(()) };
        let out = vec![0.0; rows * outputs];
        let batched = forward(&layer, &input, &out, Epilogue::Gelu);
        let single = forward(&layer, &input[row * inputs..][..inputs], &out[..outputs], Epilogue::Gelu);
        prop_assert_eq!(bits(&single), bits(&batched[row * outputs..][..outputs]));
    }
}

#[test]
fn largest_sums_do_not_overflow() {
    // The zero point of 128 makes the intermediate sums of the last case exceed 32 bits.
    for inputs in [4, 3_072, 70_000, MAX_INPUTS] {
        let Some(layer) = layer(&[vec![1.0; inputs], vec![-1.0; inputs]].concat(), &[0.0; 2], inputs) else {
            return;
        };
        for sign in [1.0, -1.0] {
            let actual = forward(&layer, &vec![sign; inputs], &[0.0; 2], Epilogue::Store);
            for (actual, expected) in actual.into_iter().zip([sign, -sign]) {
                assert!((actual / inputs as f32 - expected).abs() < 1e-6, "{actual} of {inputs}");
            }
        }
    }
}

#[test]
fn non_finite_input_makes_only_its_row_nan() {
    let (rows, inputs, outputs) = (9, 17, 33);
    let weight = rows_of_numbers(outputs, inputs, 1);
    let Some(layer) = layer(&weight, &rows_of_numbers(1, outputs, 2), inputs) else { return };
    let (input, before) = (rows_of_numbers(rows, inputs, 3), vec![0.0; rows * outputs]);
    for epilogue in [Epilogue::Store, Epilogue::Gelu, Epilogue::Add] {
        let expected = forward(&layer, &input, &before, epilogue);
        for (bad, column) in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
            .into_iter()
            .flat_map(|bad| [0, 3, inputs - 1].map(|column| (bad, column)))
        {
            let mut input = input.clone();
            input[4 * inputs + column] = bad;
            let actual = forward(&layer, &input, &before, epilogue);
            for (row, (actual, expected)) in actual.chunks(outputs).zip(expected.chunks(outputs)).enumerate()
            {
                if row == 4 {
                    assert!(actual.iter().all(|number| number.is_nan()), "{bad} at {column}, {epilogue:?}");
                } else {
                    assert_eq!(bits(actual), bits(expected), "row {row}, {bad} at {column}, {epilogue:?}");
                }
            }
        }
    }
}

#[test]
fn non_finite_weight_makes_only_its_column_nan() {
    for bad in [f32::NAN, f32::INFINITY] {
        let Some(layer) = layer(&[1.0, 2.0, bad, 0.0, 3.0, 4.0], &[0.0; 3], 2) else { return };
        let actual = forward(&layer, &[1.0, 1.0], &[0.0; 3], Epilogue::Store);
        assert_eq!([false, true, false], [0, 1, 2].map(|column| actual[column].is_nan()));
    }
}

#[test]
fn row_of_zeros_or_subnormals_gives_bias() {
    let (inputs, bias) = (40, rows_of_numbers(1, 35, 2));
    let Some(layer) = layer(&rows_of_numbers(35, inputs, 1), &bias, inputs) else { return };
    for number in [0.0, -0.0, f32::from_bits(1)] {
        let actual = forward(&layer, &vec![number; 3 * inputs], &[1.0; 3 * 35], Epilogue::Store);
        actual.chunks(35).for_each(|row| assert_eq!(row, bias));
    }
}

#[test]
fn tiny_inputs_are_quantized_with_finite_scale() {
    let Some(layer) = layer(&[1.0; 40], &[0.0], 40) else { return };
    for number in [1e-37, -1e-37] {
        let actual = forward(&layer, &[number; 40], &[0.0], Epilogue::Store);
        assert!((actual[0] / (40.0 * number) - 1.0).abs() < 0.1, "{actual:?}");
    }
}

#[test]
fn incomplete_row_is_ignored() {
    let Some(layer) = layer(&[1.0; 6], &[0.5; 3], 2) else { return };
    assert_eq!((layer.inputs(), layer.outputs()), (2, 3));
    let actual = forward(&layer, &[0.0; 5], &[9.0; 10], Epilogue::Store);
    assert_eq!(actual, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 9.0, 9.0, 9.0, 9.0]);
    assert_eq!(forward(&layer, &[0.0; 8], &[9.0; 5], Epilogue::Store), [0.5, 0.5, 0.5, 9.0, 9.0]);
    assert_eq!(forward(&layer, &[], &[9.0], Epilogue::Store), [9.0]);
}

#[test]
fn weights_of_wrong_length_are_rejected() {
    assert!(CpuInt8Linear::new(&[0.0; 15], &[0.0; 2], 8).is_none());
    assert!(CpuInt8Linear::new(&[], &[], 8).is_none());
    assert!(CpuInt8Linear::new(&[], &[0.0], 0).is_none());
    assert!(CpuInt8Linear::new(&vec![0.0; MAX_INPUTS + 1], &[0.0], MAX_INPUTS + 1).is_none());
}

/// Makes sure that the other tests are not skipped on a processor with AVX-512 VNNI.
#[cfg(target_os = "linux")]
#[test]
fn is_supported_agrees_with_proc_cpuinfo() {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let known = |name: &str| processor.split_whitespace().any(|word| word == name);
    let names = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"];
    assert_eq!(CpuInt8Linear::is_supported(), names.into_iter().all(known));
}
