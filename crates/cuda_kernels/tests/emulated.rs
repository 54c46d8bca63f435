//! The kernels' own source, compiled for the host and run by 32 threads as a warp, against LibTorch's two operators.
//!
//! What this cannot show: that a GPU's compiler makes the same of the source, and how fast that is.
#![expect(unsafe_code, reason = "calls a library that was compiled here")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{collections::HashMap, ffi::c_void, sync::Mutex};

use cuda_kernels::{NormShape, ROWS_PER_BLOCK, Storage};
use libloading::Library;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

#[path = "../../cuda_stream/tests/host/compile.rs"]
mod host;

/// `run` of `host/kernels.cpp`.
type Run = unsafe extern "C" fn(
    bool,
    u32,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    i64,
) -> bool;

/// Rows that no kernel may touch, behind those that it is given.
const GUARD_ROWS: i64 = 4;

/// Compiles the kernels for the host, as NVRTC is told to for a GPU.
fn compile(shape: NormShape) -> Library {
    let folder = tempfile::tempdir().unwrap();
    let library = host::compile("kernels.cpp", &shape.definitions(), "kernels.so", folder.path());
    // SAFETY: the library was made of our own source just now; it does nothing when it is opened.
    unsafe { Library::new(library) }.unwrap()
}

/// Which kernel, and where the norm goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    PreNorm,
    PostNorm,
    /// In the place of the first summand, as it does on a GPU.
    PostNormInPlace,
}

/// What came of a call.
struct Outcome {
    /// What is where the first summand was.
    states: Tensor,
    normed: Tensor,
}

/// Runs a kernel on copies.
fn run(shape: NormShape, way: Way, [states, delta, weight, bias]: [&Tensor; 4]) -> Outcome {
    static COMPILED: Mutex<Option<HashMap<String, Library>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap();
    let libraries = compiled.get_or_insert_default();
    let library = libraries.entry(format!("{shape:?}")).or_insert_with(|| compile(shape));
    // SAFETY: the name and the type are those of host/kernels.cpp.
    let function = unsafe { library.get::<Run>("run") }.unwrap();
    let (rows, width) = states.size2().unwrap();
    let guard = Tensor::full([GUARD_ROWS, width], 7.0, (states.kind(), Device::Cpu));
    let states = Tensor::cat(&[states, &guard], 0);
    let delta = Tensor::cat(&[delta, &guard], 0);
    let normed = if way == Way::PostNormInPlace { states.shallow_clone() } else { states.full_like(7.0) };
    let blocks = (rows as u32).div_ceil(ROWS_PER_BLOCK);
    let [states_at, delta_at, weight_at, bias_at, normed_at] =
        [&states, &delta, weight, bias, &normed].map(Tensor::data_ptr);
    // SAFETY: all tensors are contiguous, of the shape's kind and width, and alive.
    let defined = unsafe {
        function(way == Way::PreNorm, blocks, states_at, delta_at, weight_at, bias_at, normed_at, rows)
    };
    assert!(defined, "{shape:?}: lanes did not meet, which a GPU leaves undefined");
    for touched in [&states, &normed] {
        assert_eq!(touched.narrow(0, rows, GUARD_ROWS), guard, "{shape:?}: wrote behind {rows} rows");
    }
    Outcome { states: states.narrow(0, 0, rows), normed: normed.narrow(0, 0, rows) }
}

/// Rows of numbers about `mean`, with a standard deviation of `deviation`.
fn numbers(size: &[i64], mean: f64, deviation: f64, kind: Kind) -> Tensor {
    (Tensor::randn(size, (Kind::Float, Device::Cpu)) * deviation + mean).to_kind(kind)
}

/// How far `found` is from `exact`, in units of what its kind and the reductions allow: above 1 it is wrong.
///
/// Rounding the result gives half a unit in the last place, which near an even number is all of `2^-11` (`2^-24`) of it. The
/// deviations from the mean are as exact as the mean is, `mean / deviation` times an f32's last place, times a few for the
/// additions; the weight multiplies that.
fn wrongness(found: &Tensor, exact: &Tensor, kind: Kind, mean_over_deviation: f64) -> f64 {
    let last_place = if kind == Kind::Half { 2f64.powi(-11) } else { 2f64.powi(-24) };
    let reduction = 2f64.powi(-24) * (8.0 + 4.0 * mean_over_deviation) * 4.0;
    let allowed = exact.abs() * last_place * 1.01 + reduction;
    ((found.to_kind(Kind::Double) - exact).abs() / allowed).max().double_value(&[])
}

/// Both kernels on random rows, against LibTorch's two operators (the sum, to the bit) and the norm in f64 of that sum.
fn check(shape: NormShape, rows: i64, mean: f64, deviation: f64) {
    let (width, kind, eps) = (shape.width(), shape.storage().kind(), shape.eps());
    let states = numbers(&[rows, width], mean, deviation, kind);
    let delta = numbers(&[rows, width], 0.0, deviation, kind);
    let (weight, bias) = (numbers(&[width], 1.0, 0.5, kind), numbers(&[width], 0.0, 0.5, kind));
    let sum = &states + &delta;
    let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
    let exact = double(&sum).layer_norm([width], Some(double(&weight)), Some(double(&bias)), eps, false);
    let plain = sum.layer_norm([width], Some(&weight), Some(&bias), eps, false);
    let far = mean.abs() / deviation;
    for way in [Way::PreNorm, Way::PostNorm, Way::PostNormInPlace] {
        let found = run(shape, way, [&states, &delta, &weight, &bias]);
        match way {
            Way::PreNorm => assert_eq!(found.states, sum, "{shape:?}: the sum is not LibTorch's"),
            Way::PostNorm => assert_eq!(found.states, states, "{shape:?}: a summand was changed"),
            Way::PostNormInPlace => {}
        }
        let wrong = wrongness(&found.normed, &exact, kind, far);
        assert!(wrong <= 1.0, "{shape:?}, {rows} rows about {mean} by {deviation}, {way:?}: {wrong}");
        // And no further from LibTorch's than two that are right can be.
        let apart = (double(&found.normed) - double(&plain)).abs().max().double_value(&[]);
        let unit = if kind == Kind::Half { 2f64.powi(-10) } else { 2f64.powi(-23) };
        let allowed = exact.abs().max().double_value(&[]) * unit + 2f64.powi(-22) * (8.0 + 4.0 * far) * 4.0;
        assert!(apart <= allowed, "{shape:?}, {rows} rows about {mean}: {apart} from LibTorch's");
    }
}

fn shape(width: i64, eps: f64, storage: Storage) -> NormShape {
    NormShape::new(width, eps, storage).unwrap()
}

#[test]
fn the_sum_and_its_norm_are_libtorchs_at_every_width_and_kind() {
    for storage in [Storage::Half, Storage::Float] {
        for (width, eps) in [(256, 1e-5), (768, 1e-5), (768, 1e-12), (1024, 1e-12)] {
            for rows in [1, 3, 4, 6] {
                check(shape(width, eps, storage), rows, 0.0, 1.0);
            }
        }
    }
}

#[test]
fn lanes_without_a_vector_of_their_own_change_nothing() {
    for (width, storage) in
        [(8, Storage::Half), (40, Storage::Half), (264, Storage::Half), (4, Storage::Float)]
    {
        check(shape(width, 1e-5, storage), 5, 0.5, 1.0);
    }
}

#[test]
fn a_mean_far_above_the_deviation_cancels_nothing() {
    for storage in [Storage::Half, Storage::Float] {
        check(shape(768, 1e-5, storage), 5, 1000.0, 1.0);
        check(shape(768, 1e-5, storage), 5, -60.0, 0.25);
    }
    check(shape(768, 1e-12, Storage::Float), 5, 3e4, 1.0);
}

#[test]
fn epsilon_is_what_is_left_of_rows_without_variance() {
    let shape = shape(256, 1e-5, Storage::Float);
    // Deviations of 1e-4 have a variance of 1e-8: nearly all of the root is epsilon's.
    check(shape, 4, 0.0, 1e-4);
    let flat = Tensor::full([2, 256], 3.0, (Kind::Float, Device::Cpu));
    let (weight, bias) = (flat.get(0), flat.get(1));
    let found = run(shape, Way::PreNorm, [&flat, &flat, &weight, &bias]);
    assert_eq!(found.normed, flat, "a row of equal numbers is its bias");
}

#[test]
fn a_row_that_is_not_finite_stays_by_itself() {
    let shape = shape(256, 1e-5, Storage::Half);
    let states = numbers(&[5, 256], 0.0, 1.0, Kind::Half);
    let delta = numbers(&[5, 256], 0.0, 1.0, Kind::Half);
    let (weight, bias) = (numbers(&[256], 1.0, 0.5, Kind::Half), numbers(&[256], 0.0, 0.5, Kind::Half));
    let before = run(shape, Way::PreNorm, [&states, &delta, &weight, &bias]);
    let _row = states.get(2).fill_(f64::NAN);
    let after = run(shape, Way::PreNorm, [&states, &delta, &weight, &bias]);
    for row in [0, 1, 3, 4] {
        assert_eq!(after.normed.get(row), before.normed.get(row));
    }
    assert!(bool::try_from(after.normed.get(2).isnan().all()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_of_any_number_and_scale_are_normalised(
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
