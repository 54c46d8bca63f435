//! The source of the norm kernels, compiled for the host.
//!
//! The results are compared with LibTorch's two operators. The tests do not cover the machine code
//! for a GPU or its speed.

use std::{collections::HashMap, rc::Rc, sync::Mutex};

use cuda::{CudaError, NormKernels, NormShape, Storage, rounding_error};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::fake_driver::{FakeDriver, compile_norms};

/// Rows behind those that the kernels are given. The kernels must not write to them.
const GUARD_ROWS: i64 = 4;

/// Loads the kernels of `shape`, which it compiles once.
fn load(_fake: &FakeDriver, shape: NormShape) -> Rc<NormKernels> {
    static CUBINS: Mutex<Option<HashMap<String, Vec<u8>>>> = Mutex::new(None);
    let mut cubins = CUBINS.lock().unwrap();
    let cubins = cubins.get_or_insert_default();
    let cubin = cubins.entry(format!("{shape:?}")).or_insert_with(|| compile_norms(shape));
    Rc::new(NormKernels::load(shape, Device::Cpu, cubin).unwrap())
}

/// Runs both kernels. Returns the sum and its norm.
fn run(shape: NormShape, [states, delta, weight, bias]: [&Tensor; 4]) -> (Tensor, Tensor) {
    let fake = FakeDriver::open();
    let norm = load(&fake, shape).with(weight, bias).unwrap();
    let (rows, width) = states.size2().unwrap();
    let guard = Tensor::full([GUARD_ROWS, width], 7.0, (states.kind(), Device::Cpu));
    let guarded = [states, states, delta].map(|tensor| Tensor::cat(&[tensor, &guard], 0));
    let [mut sum, output, summand] = guarded.each_ref().map(|tensor| tensor.narrow(0, 0, rows));
    let normed = norm.add_then_norm(&mut sum, &summand).unwrap();
    let post_normed = norm.norm_of_sum(output, &summand).unwrap();
    assert!(post_normed.allclose(&normed, 0.0, 0.0, true), "{shape:?}: the kernels differ");
    assert_eq!(summand, *delta, "{shape:?}: a summand changed");
    for tensor in guarded {
        assert_eq!(tensor.narrow(0, rows, GUARD_ROWS), guard, "{shape:?}: wrote behind {rows} rows");
    }
    (sum, normed)
}

/// Returns random numbers with this mean and standard deviation.
fn random(size: &[i64], mean: f64, deviation: f64, kind: Kind) -> Tensor {
    (Tensor::randn(size, (Kind::Float, Device::Cpu)) * deviation + mean).to_kind(kind)
}

/// Returns the largest error of `found` relative to the tolerance. Above 1 the result is wrong.
///
/// - The rounding of the result allows half a unit in the last place. Just above a power of two
///   that is `2^-11` (f32: `2^-24`) of the number.
/// - A deviation from the mean is as exact as the mean: `mean / deviation` times the last place of
///   an f32, times a few for the additions. The weight multiplies this error.
fn relative_error(found: &Tensor, exact: &Tensor, kind: Kind, mean_over_deviation: f64) -> f64 {
    let last_place = if kind == Kind::Half { 2f64.powi(-11) } else { 2f64.powi(-24) };
    let reduction = 2f64.powi(-24) * (8.0 + 4.0 * mean_over_deviation) * 4.0;
    let allowed = exact.abs() * last_place * 1.01 + reduction;
    ((found.to_kind(Kind::Double) - exact).abs() / allowed).max().double_value(&[])
}

/// Runs both kernels on random rows.
///
/// The sum must equal LibTorch's to the bit. The norm must be close to the norm of that sum in f64,
/// and to LibTorch's norm.
fn check(shape: NormShape, rows: i64, mean: f64, deviation: f64) {
    let (width, kind, eps) = (shape.width(), shape.storage().kind(), shape.eps());
    let states = random(&[rows, width], mean, deviation, kind);
    let delta = random(&[rows, width], 0.0, deviation, kind);
    let (weight, bias) = (random(&[width], 1.0, 0.5, kind), random(&[width], 0.0, 0.5, kind));
    let sum = &states + &delta;
    let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
    let exact = double(&sum).layer_norm([width], Some(double(&weight)), Some(double(&bias)), eps, false);
    let libtorch = sum.layer_norm([width], Some(&weight), Some(&bias), eps, false);
    let ratio = mean.abs() / deviation;
    let case = format!("{shape:?}, {rows} rows, mean {mean}, deviation {deviation}");
    let (found_sum, normed) = run(shape, [&states, &delta, &weight, &bias]);
    assert_eq!(found_sum, sum, "{case}: the sum differs");
    let error = relative_error(&normed, &exact, kind, ratio);
    assert!(error <= 1.0, "{case}: {error}");
    // Two correct results differ by no more than this.
    let distance = (double(&normed) - double(&libtorch)).abs().max().double_value(&[]);
    let unit = if kind == Kind::Half { 2f64.powi(-10) } else { 2f64.powi(-23) };
    let allowed = exact.abs().max().double_value(&[]) * unit + 2f64.powi(-22) * (8.0 + 4.0 * ratio) * 4.0;
    assert!(distance <= allowed, "{case}: {distance} from LibTorch's result");
}

fn shape(width: i64, eps: f64, storage: Storage) -> NormShape {
    NormShape::new(width, eps, storage).unwrap()
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn kernels_match_libtorch_at_every_width_and_format() {
    for storage in [Storage::Half, Storage::Float] {
        for (width, eps) in [(256, 1e-5), (768, 1e-5), (768, 1e-12), (1024, 1e-12)] {
            for rows in [1, 3, 4, 6] {
                check(shape(width, eps, storage), rows, 0.0, 1.0);
            }
        }
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn norms_in_fp8_are_rounded_once() {
    let fake = FakeDriver::open();
    for width in [8, 48, 256, 768, 1024] {
        let shape = shape(width, 1e-5, Storage::Half).with_fp8_norms().unwrap();
        let tensor = |size: &[i64]| random(size, 1.0, 3.0, Kind::Half);
        let (states, delta) = (tensor(&[5, width]), tensor(&[5, width]));
        let (weight, bias) = (tensor(&[width]), tensor(&[width]));
        let kernels = load(&fake, shape);
        kernels.check().unwrap();
        let mut sum = states.copy();
        let norm = kernels.with(&weight, &bias).unwrap().with_fp8_norms();
        let found = norm.add_then_norm(&mut sum, &delta).unwrap();
        assert_eq!((found.kind(), found.size()), (Kind::Float8e4m3fn, vec![5, width]));
        assert_eq!(sum, &states + &delta);
        let [exact, weight, bias] = [&sum, &weight, &bias].map(|tensor| tensor.to_kind(Kind::Double));
        let exact = exact.layer_norm([width], Some(&weight), Some(&bias), 1e-5, false);
        let worst = rounding_error(&found, &exact).unwrap();
        assert!(worst <= 1.001, "{width}: {worst}");
        // The norm of a sum in place stays in f16.
        let normed = norm.norm_of_sum(states.copy(), &delta).unwrap();
        assert_eq!(normed.kind(), Kind::Half);
    }
    // Kernels without norms in FP8 return them in f16.
    let row = Tensor::ones([48], (Kind::Half, Device::Cpu));
    let norm = load(&fake, shape(48, 1e-5, Storage::Half)).with(&row, &row).unwrap().with_fp8_norms();
    assert_eq!(norm.add_then_norm(&mut row.copy(), &row).unwrap().kind(), Kind::Half);
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn lanes_without_vectors_change_nothing() {
    for (width, storage) in
        [(8, Storage::Half), (40, Storage::Half), (264, Storage::Half), (4, Storage::Float)]
    {
        check(shape(width, 1e-5, storage), 5, 0.5, 1.0);
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn large_mean_does_not_cancel_the_variance() {
    for storage in [Storage::Half, Storage::Float] {
        check(shape(768, 1e-5, storage), 5, 1000.0, 1.0);
        check(shape(768, 1e-5, storage), 5, -60.0, 0.25);
    }
    check(shape(768, 1e-12, Storage::Float), 5, 3e4, 1.0);
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn epsilon_dominates_rows_without_variance() {
    let shape = shape(256, 1e-5, Storage::Float);
    // Deviations of 1e-4 have a variance of 1e-8, so epsilon is most of the square root.
    check(shape, 4, 0.0, 1e-4);
    let flat = Tensor::full([2, 256], 3.0, (Kind::Float, Device::Cpu));
    let (weight, bias) = (flat.get(0), flat.get(1));
    let (_sum, normed) = run(shape, [&flat, &flat, &weight, &bias]);
    assert_eq!(normed, flat, "the norm of a row of equal numbers is the bias");
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn nan_row_does_not_affect_other_rows() {
    let shape = shape(256, 1e-5, Storage::Half);
    let states = random(&[5, 256], 0.0, 1.0, Kind::Half);
    let delta = random(&[5, 256], 0.0, 1.0, Kind::Half);
    let (weight, bias) = (random(&[256], 1.0, 0.5, Kind::Half), random(&[256], 0.0, 0.5, Kind::Half));
    let (_sum, before) = run(shape, [&states, &delta, &weight, &bias]);
    let _row = states.get(2).fill_(f64::NAN);
    let (_sum, after) = run(shape, [&states, &delta, &weight, &bias]);
    for row in [0, 1, 3, 4] {
        assert_eq!(after.get(row), before.get(row));
    }
    assert!(bool::try_from(after.get(2).isnan().all()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    #[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
    fn random_rows_match_libtorch(
        wide in prop::bool::ANY,
        half in prop::bool::ANY,
        rows in 1i64..10,
        mean in -50f64..50.0,
        exponent in -3i32..4,
    ) {
        let storage = if half { Storage::Half } else { Storage::Float };
        let deviation = 2f64.powi(exponent);
        check(shape(if wide { 768 } else { 256 }, 1e-5, storage), rows, mean, deviation);
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn kernels_compile_for_architecture_of_device() {
    let _fake = FakeDriver::open();
    let shape = shape(48, 1e-5, Storage::Half);
    let compile = |index| NormKernels::compile(shape, index).unwrap_err().to_string();
    // The fake compiler accepts the architecture of the device. Its cubin has no kernels.
    assert_eq!(compile(0), "CUDA driver error: named symbol not found");
    assert_eq!(compile(1), "CUDA driver error: invalid device ordinal");
    let message = shape.compile("sm_12").unwrap_err().to_string();
    assert_eq!(
        message,
        "nvrtc failed: NvrtcError(NVRTC_ERROR_INVALID_OPTION) for sm_12: unknown architecture"
    );
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn self_check_finds_wrong_results_and_failures() {
    let fake = FakeDriver::open();
    let kernels = load(&fake, shape(48, 1e-5, Storage::Half));
    kernels.check().unwrap();
    fake.fail("result");
    let error = kernels.check().unwrap_err();
    assert!(matches!(error, CudaError::SelfCheck { kernel: "pre_norm", .. }), "{error}");
    fake.fail("launch");
    let message = kernels.check().unwrap_err().to_string();
    assert_eq!(message, "CUDA driver error: unspecified launch failure");
    let message = NormKernels::load(kernels.shape(), Device::Cpu, b"text").unwrap_err().to_string();
    assert_eq!(message, "CUDA driver error: device kernel image is invalid");
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn add_norm_accepts_any_leading_dimensions() {
    let fake = FakeDriver::open();
    let tensor = |size: &[i64]| random(size, 0.0, 1.0, Kind::Half);
    let kernels = load(&fake, shape(48, 1e-5, Storage::Half));
    let norm = kernels.with(&tensor(&[48]), &tensor(&[48])).unwrap();
    for size in [&[2, 3, 48][..], &[5, 1, 48], &[48], &[0, 48]] {
        let (mut states, delta) = (tensor(size), tensor(size));
        let sum = &states + &delta;
        let of_sum = norm.norm_of_sum(states.detach_copy(), &delta).unwrap();
        let normed = norm.add_then_norm(&mut states, &delta).unwrap();
        assert_eq!(states, sum);
        assert_eq!((normed.size().as_slice(), &normed), (size, &of_sum));
    }
    assert!(norm.norm_of_sum(tensor(&[2, 40]), &tensor(&[2, 40])).is_err());
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn add_norm_launches_on_current_stream() {
    let fake = FakeDriver::open();
    let row = Tensor::ones([48], (Kind::Half, Device::Cpu));
    let norm = load(&fake, shape(48, 1e-5, Storage::Half)).with(&row, &row).unwrap();
    let launch = || norm.norm_of_sum(row.copy(), &row).map(|_| fake.current_stream(0)).unwrap();
    assert_eq!((launch(), fake.last_kernel_stream()), (0, 0));
    let stream = fake.streams.copy_stream(0).unwrap().run(launch).unwrap();
    assert_ne!(stream, 0);
    assert_eq!(fake.last_kernel_stream(), stream);
}
