use std::{io::Write, sync::Once};

use proptest::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use super::*;
use crate::{
    activation::gelu,
    bf16_numbers::{bf16_pair, to_bf16},
    tiles::{layout::TileFormat, quantization::MAX_INPUTS, rounded_rows::RoundedRows},
};

/// Creates a layer for each way to compute its products on this processor.
///
/// If there is none, a line on standard error, which the test harness does not capture, reports the
/// skipped check.
fn layers(weight: &[f32], bias: &[f32], inputs: usize, format: TileFormat) -> Vec<TileLinear> {
    let kernels = TileKernel::all(format);
    if kernels.is_empty() {
        static REPORTED: Once = Once::new();
        let mut out = std::io::stderr();
        REPORTED.call_once(|| writeln!(out, "tests skipped: no products in {format:?}").unwrap());
    }
    kernels.into_iter().map(|kernel| TileLinear::new(kernel, weight, bias, inputs).unwrap()).collect()
}

/// Returns rows of very different magnitudes.
fn rows_of_numbers(rows: usize, columns: usize, seed: usize) -> Vec<f32> {
    let number = |index: usize| (((index + seed) * 7_919) % 1_009) as f32 / 504.0 - 1.0;
    let size = |row: usize| 2f32.powf(5.0 * number(31 * row + 7));
    (0..rows * columns).map(|index| number(index) * size(index / columns)).collect()
}

fn forward(layer: &TileLinear, input: &[f32], out: &[f32], epilogue: Epilogue) -> Vec<f32> {
    let mut out = out.to_vec();
    layer.forward_columns(input, 0..layer.outputs(), &mut out, epilogue);
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

/// Returns the nearest number in bf16.
fn as_bf16(number: f32) -> f32 {
    f32::from_bits(bf16_pair(0.0, number))
}

const FORMATS: [TileFormat; 2] = [TileFormat::Bf16, TileFormat::Int8];
const EPILOGUES: [Epilogue; 3] = [Epilogue::Store, Epilogue::Gelu, Epilogue::Add];

proptest! {
    #[test]
    fn int8_products_are_bit_identical_to_integer_reference(
        rows in 1usize..40,
        inputs in 1usize..300,
        outputs in 1usize..100,
    ) {
        let (input, weight) = (rows_of_numbers(rows, inputs, 1), rows_of_numbers(outputs, inputs, 2));
        let (bias, before) = (rows_of_numbers(1, outputs, 3), rows_of_numbers(rows, outputs, 4));
        let expected = reference(&input, &weight, &bias, inputs);
        let sums: Vec<f32> = expected.iter().zip(&before).map(|(new, old)| new + old).collect();
        let mut gelus = expected.clone();
        Arch::new().dispatch(Gelu(&mut gelus));
        for layer in layers(&weight, &bias, inputs, TileFormat::Int8) {
            prop_assert_eq!(bits(&forward(&layer, &input, &before, Epilogue::Store)), bits(&expected));
            prop_assert_eq!(bits(&forward(&layer, &input, &before, Epilogue::Add)), bits(&sums));
            prop_assert_eq!(bits(&forward(&layer, &input, &before, Epilogue::Gelu)), bits(&gelus));
        }
    }

    #[test]
    fn int8_error_is_within_quantization_bound(
        rows in 1usize..40,
        inputs in 1usize..300,
        outputs in 1usize..100,
        seed in 0usize..1_009,
    ) {
        let (input, weight) = (rows_of_numbers(rows, inputs, seed), rows_of_numbers(outputs, inputs, 2));
        let bias = rows_of_numbers(1, outputs, 3);
        let (row_scales, column_scales) = (scales(&input, inputs), scales(&weight, inputs));
        for layer in layers(&weight, &bias, inputs, TileFormat::Int8) {
            let actual = forward(&layer, &input, &vec![0.0; rows * outputs], Epilogue::Store);
            for (index, actual) in actual.into_iter().enumerate() {
                let (row, column) = (index / outputs, index % outputs);
                let [row_scale, column_scale] = [row_scales[row], column_scales[column]].map(f64::from);
                let (mut exact, mut bound) = (f64::from(bias[column]), 0.0);
                let row = &input[row * inputs..][..inputs];
                for (&a, &b) in row.iter().zip(&weight[column * inputs..][..inputs]) {
                    let (a, b) = (f64::from(a), f64::from(b));
                    exact += a * b;
                    // Each factor is off by half a scale unit at most.
                    bound +=
                        (a.abs() * column_scale + b.abs() * row_scale) / 2.0 + row_scale * column_scale / 4.0;
                }
                // The rounding errors of f32.
                let bound = bound * (1.0 + 1e-5) + exact.abs() * 1e-6;
                let error = (f64::from(actual) - exact).abs();
                prop_assert!(error <= bound, "{actual} for {exact}: error {error}, bound {bound}");
            }
        }
    }

    #[test]
    fn bf16_products_are_those_of_rounded_numbers(
        rows in 1usize..40,
        inputs in 1usize..300,
        outputs in 1usize..100,
    ) {
        let (input, weight) = (rows_of_numbers(rows, inputs, 1), rows_of_numbers(outputs, inputs, 2));
        let (bias, before) = (rows_of_numbers(1, outputs, 3), rows_of_numbers(rows, outputs, 4));
        for layer in layers(&weight, &bias, inputs, TileFormat::Bf16) {
            let actual = forward(&layer, &input, &before, Epilogue::Add);
            for (index, actual) in actual.into_iter().enumerate() {
                let (row, column) = (index / outputs, index % outputs);
                let [bias, before] = [bias[column], before[index]].map(f64::from);
                let (mut exact, mut magnitude) = (bias + before, bias.abs() + before.abs());
                let row = &input[row * inputs..][..inputs];
                for (&a, &b) in row.iter().zip(&weight[column * inputs..][..inputs]) {
                    let product = f64::from(as_bf16(a)) * f64::from(as_bf16(b));
                    exact += product;
                    magnitude += product.abs();
                }
                // The sums have the rounding errors of f32.
                let error = (f64::from(actual) - exact).abs();
                prop_assert!(error <= magnitude * 1e-6, "{actual} for {exact}: error {error}");
            }
        }
    }

    #[test]
    fn batched_row_is_bit_identical_to_single_row(
        rows in 1usize..70,
        row in 0usize..70,
        outputs in 1usize..70,
    ) {
        let (inputs, row) = (72, row % rows);
        let (input, weight) = (rows_of_numbers(rows, inputs, 4), rows_of_numbers(outputs, inputs, 5));
        let (bias, out) = (rows_of_numbers(1, outputs, 6), vec![0.0; rows * outputs]);
        for layer in FORMATS.into_iter().flat_map(|format| layers(&weight, &bias, inputs, format)) {
            let batched = forward(&layer, &input, &out, Epilogue::Gelu);
            let single = forward(&layer, &input[row * inputs..][..inputs], &out[..outputs], Epilogue::Gelu);
            prop_assert_eq!(bits(&single), bits(&batched[row * outputs..][..outputs]));
        }
    }

    #[test]
    fn blocks_of_columns_are_bit_identical_to_the_whole(
        rows in 1usize..20,
        outputs in 1usize..200,
        count in 0usize..9,
    ) {
        let (inputs, formats) = (24, [NumberFormat::F32, NumberFormat::Bf16, NumberFormat::Int8]);
        let input = rows_of_numbers(rows, inputs, 1);
        let (weight, bias) = (rows_of_numbers(outputs, inputs, 2), rows_of_numbers(1, outputs, 3));
        for format in formats.into_iter().filter(|format| format.is_supported()) {
            let linear = CpuLinear::with_format(&weight, &bias, inputs, format).unwrap();
            let before = rows_of_numbers(rows, outputs, 4);
            let mut whole = before.clone();
            linear.forward(&input, &mut whole, Epilogue::Add);
            let mut next = 0;
            for columns in linear.column_blocks(count) {
                prop_assert_eq!(columns.start, next);
                next = columns.end;
                let part = |all: &[f32]| -> Vec<f32> {
                    all.chunks(outputs).flat_map(|row| row[columns.clone()].to_vec()).collect()
                };
                let mut block = part(&before);
                linear.forward_columns(&input, columns.clone(), &mut block, Epilogue::Add);
                prop_assert_eq!(block, part(&whole));
            }
            prop_assert_eq!(next, outputs);
        }
    }
}

/// The rows of this input are multiplied in several groups.
#[test]
fn many_long_rows_are_bit_identical_to_single_rows() {
    let (rows, inputs, outputs) = (150, 8_000, 40);
    let (input, weight) = (rows_of_numbers(rows, inputs, 4), rows_of_numbers(outputs, inputs, 5));
    let (bias, out) = (rows_of_numbers(1, outputs, 6), vec![0.0; rows * outputs]);
    for layer in FORMATS.into_iter().flat_map(|format| layers(&weight, &bias, inputs, format)) {
        let batched = forward(&layer, &input, &out, Epilogue::Store);
        for row in [0, 31, 32, 100, rows - 1] {
            let single = forward(&layer, &input[row * inputs..][..inputs], &out[..outputs], Epilogue::Store);
            assert_eq!(bits(&single), bits(&batched[row * outputs..][..outputs]), "row {row}");
        }
        if let Some(kernel) = Bf16Kernel::new() {
            let (mut rounded, stride) = (RoundedRows::default(), outputs + 2);
            layer.round(&input, rows, &mut rounded);
            let mut out = vec![0; rows * stride];
            layer.forward_to_bf16(&rounded, kernel, &mut out, stride);
            for (out, batched) in out.chunks(stride).zip(batched.chunks(outputs)) {
                assert!(out.iter().zip(batched).all(|(&out, &number)| out == to_bf16(number)));
            }
        }
    }
}

#[test]
fn largest_integer_sums_do_not_overflow() {
    // The zero point of 128 makes the intermediate sums of the last case exceed 32 bits.
    for inputs in [4, 3_072, 70_000, MAX_INPUTS] {
        let weight = [vec![1.0; inputs], vec![-1.0; inputs]].concat();
        for layer in layers(&weight, &[0.0; 2], inputs, TileFormat::Int8) {
            for sign in [1.0, -1.0] {
                let actual = forward(&layer, &vec![sign; inputs], &[0.0; 2], Epilogue::Store);
                for (actual, expected) in actual.into_iter().zip([sign, -sign]) {
                    assert!((actual / inputs as f32 - expected).abs() < 1e-6, "{actual} of {inputs}");
                }
            }
        }
    }
}

/// In int8, the whole row becomes NaN. In bf16, its sums are infinite or NaN, except that GELU
/// turns negative infinity into 0.
#[test]
fn non_finite_input_affects_only_its_row() {
    let (rows, inputs, outputs) = (40, 17, 33);
    let (weight, bias) = (rows_of_numbers(outputs, inputs, 1), rows_of_numbers(1, outputs, 2));
    let (input, before) = (rows_of_numbers(rows, inputs, 3), vec![0.0; rows * outputs]);
    let bad_numbers = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let cases = bad_numbers.into_iter().flat_map(|bad| [0, 3, inputs - 1].map(|column| (bad, column)));
    for (format, epilogue) in
        FORMATS.into_iter().flat_map(|format| EPILOGUES.map(|epilogue| (format, epilogue)))
    {
        for layer in layers(&weight, &bias, inputs, format) {
            let expected = forward(&layer, &input, &before, epilogue);
            for (bad, column) in cases.clone() {
                let mut input = input.clone();
                input[4 * inputs + column] = bad;
                let actual = forward(&layer, &input, &before, epilogue);
                for (row, (actual, expected)) in
                    actual.chunks(outputs).zip(expected.chunks(outputs)).enumerate()
                {
                    let context = format!("row {row}, {bad} at {column}, {format:?}, {epilogue:?}");
                    if row != 4 {
                        assert_eq!(bits(actual), bits(expected), "{context}");
                    } else if format == TileFormat::Int8 || bad.is_nan() {
                        assert!(actual.iter().all(|number| number.is_nan()), "{context}");
                    } else {
                        let is_bad = |&number: &f32| {
                            !number.is_finite() || (epilogue == Epilogue::Gelu && number == 0.0)
                        };
                        assert!(actual.iter().all(is_bad), "{context}");
                    }
                }
            }
        }
    }
}

#[test]
fn non_finite_weight_affects_only_its_column() {
    for bad in [f32::NAN, f32::INFINITY] {
        let weight = [1.0, 2.0, bad, 0.0, 3.0, 4.0];
        for layer in FORMATS.into_iter().flat_map(|format| layers(&weight, &[0.0; 3], 2, format)) {
            let actual = forward(&layer, &[1.0, 1.0], &[0.0; 3], Epilogue::Store);
            assert_eq!([true, false, true], [0, 1, 2].map(|column| actual[column].is_finite()));
        }
    }
}

#[test]
fn row_of_zeros_or_subnormals_gives_bias() {
    let (inputs, bias) = (40, rows_of_numbers(1, 35, 2));
    let weight = rows_of_numbers(35, inputs, 1);
    for layer in FORMATS.into_iter().flat_map(|format| layers(&weight, &bias, inputs, format)) {
        for number in [0.0, -0.0, f32::from_bits(1)] {
            let actual = forward(&layer, &vec![number; 3 * inputs], &[1.0; 3 * 35], Epilogue::Store);
            actual.chunks(35).for_each(|row| assert_eq!(row, bias));
        }
    }
}

#[test]
fn tiny_inputs_are_quantized_with_finite_scale() {
    for layer in layers(&[1.0; 40], &[0.0], 40, TileFormat::Int8) {
        for number in [1e-37, -1e-37] {
            let actual = forward(&layer, &[number; 40], &[0.0], Epilogue::Store);
            assert!((actual[0] / (40.0 * number) - 1.0).abs() < 0.1, "{actual:?}");
        }
    }
}

#[test]
fn incomplete_row_is_ignored() {
    for layer in FORMATS.into_iter().flat_map(|format| layers(&[1.0; 6], &[0.5; 3], 2, format)) {
        assert_eq!((layer.inputs(), layer.outputs()), (2, 3));
        let actual = forward(&layer, &[0.0; 5], &[9.0; 10], Epilogue::Store);
        assert_eq!(actual, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 9.0, 9.0, 9.0, 9.0]);
        assert_eq!(forward(&layer, &[0.0; 8], &[9.0; 5], Epilogue::Store), [0.5, 0.5, 0.5, 9.0, 9.0]);
        assert_eq!(forward(&layer, &[], &[9.0], Epilogue::Store), [9.0]);
    }
}

#[test]
fn weights_of_wrong_length_are_rejected() {
    for format in [NumberFormat::F32, NumberFormat::Bf16, NumberFormat::Int8] {
        let layer = |weight: &[f32], bias: &[f32], inputs| {
            CpuLinear::with_format(weight, bias, inputs, format).is_some()
        };
        assert!(!layer(&[0.0; 15], &[0.0; 2], 8) && !layer(&[], &[], 8) && !layer(&[], &[0.0], 0));
        let has_limit = format == NumberFormat::Int8;
        assert_eq!(layer(&vec![0.0; MAX_INPUTS + 1], &[0.0], MAX_INPUTS + 1), !has_limit, "{format:?}");
    }
}

/// Makes sure that the other tests are not skipped on a processor with the instructions.
#[cfg(target_os = "linux")]
#[test]
fn support_agrees_with_proc_cpuinfo() {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let known = |name: &str| processor.split_whitespace().any(|word| word == name);
    let has_avx512 = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"].into_iter().all(known);
    assert_eq!(NumberFormat::Int8.is_supported(), known("avx2") && known("fma"));
    assert_eq!(NumberFormat::Bf16.has_products(), has_avx512 && known("avx512_bf16"));
    assert!(NumberFormat::F32.has_products() && NumberFormat::Bf16.is_supported());
}
