//! The kernel that chooses tokens, compiled for the host, against LibTorch's operators.

use std::sync::OnceLock;

use cuda::{ChoiceKernel, CudaError, Storage};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::fake_driver::{FakeDriver, compile_choice};

/// Loads the kernel for logits in `storage`, which it compiles once.
fn load(_fake: &FakeDriver, storage: Storage) -> ChoiceKernel {
    static HALF: OnceLock<Vec<u8>> = OnceLock::new();
    static FLOAT: OnceLock<Vec<u8>> = OnceLock::new();
    let cubin = if storage == Storage::Half { &HALF } else { &FLOAT };
    ChoiceKernel::load(storage, Device::Cpu, cubin.get_or_init(|| compile_choice(storage))).unwrap()
}

/// Returns the table of `logits`.
fn choose(logits: &Tensor) -> Tensor {
    let fake = FakeDriver::open();
    load(&fake, Storage::of(logits.kind()).unwrap()).choose(logits).unwrap()
}

/// Checks every column of the table of `logits` against LibTorch's operators.
fn check(logits: &Tensor) {
    let table = choose(logits);
    let logits = logits.to_kind(Kind::Float);
    let (first, token) = logits.max_dim(-1, true);
    let others = logits.scatter_value(-1, &token, f64::NEG_INFINITY);
    assert_eq!(table.narrow(1, 0, 1), first);
    assert_eq!(table.narrow(1, 1, 1), others.amax([-1i64].as_slice(), true));
    assert_eq!(table.narrow(1, 2, 1).to_kind(Kind::Int64), token);
    let total = logits.to_kind(Kind::Double).logsumexp(-1i64, true);
    let error = (table.narrow(1, 3, 1).to_kind(Kind::Double) - &total).abs();
    // A few roundings of the sum and one of the result.
    let allowed = total.abs() * 2f64.powi(-23) + 2f64.powi(-19);
    assert!(bool::try_from(error.le_tensor(&allowed).all()).unwrap(), "{error} above {allowed}");
}

fn random(rows: i64, width: i64, deviation: f64, kind: Kind) -> Tensor {
    (Tensor::randn([rows, width], (Kind::Float, Device::Cpu)) * deviation).to_kind(kind)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    #[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
    fn random_logits_match_libtorch(
        half in prop::bool::ANY,
        rows in 1i64..5,
        width in 1i64..4000,
        deviation in 0.1f64..30.0,
    ) {
        check(&random(rows, width, deviation, if half { Kind::Half } else { Kind::Float }));
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn released_vocabulary_matches_libtorch() {
    for kind in [Kind::Half, Kind::Float] {
        check(&random(3, 30_524, 3.0, kind));
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn lowest_of_equal_tokens_is_best_without_lead() {
    // Within one thread, in two threads of a warp, and in two warps.
    for equal in [[5, 1029], [5, 6], [1500, 40], [2999, 0]] {
        let logits = Tensor::zeros([1, 3000], (Kind::Half, Device::Cpu));
        for token in equal {
            let _logit = logits.get(0).get(token).fill_(2.5);
        }
        let row = Vec::<f32>::try_from(choose(&logits).get(0)).unwrap();
        assert_eq!(row[..3], [2.5, 2.5, equal[0].min(equal[1]) as f32], "{equal:?}");
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn rows_without_finite_result_have_a_valid_token() {
    let row = |value: f64, rest: f64| {
        let logits = Tensor::full([1500], rest, (Kind::Half, Device::Cpu));
        let _logit = logits.get(1100).fill_(value);
        logits
    };
    let rows = [row(f64::NAN, 0.0), row(0.0, f64::NAN), row(f64::INFINITY, 0.0), row(1.0, 1.0) * f64::NAN];
    let lowest = row(f64::NEG_INFINITY, f64::NEG_INFINITY);
    let finite = row(3.0, 1.0);
    let logits = Tensor::stack(&[&rows[0], &rows[1], &rows[2], &rows[3], &lowest, &finite], 0);
    let table: Vec<Vec<f32>> = Vec::try_from(choose(&logits)).unwrap();
    for row in &table[..5] {
        assert!((0.0..1500.0).contains(&row[2]) && !(row[0] - row[3]).is_finite(), "{row:?}");
    }
    assert_eq!(table[5][..3], [3.0, 1.0, 1100.0]);
    assert!((table[5][0] - table[5][3]).is_finite());
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn single_masked_tokens_do_not_win() {
    let logits = Tensor::full([1, 40], f64::NEG_INFINITY, (Kind::Float, Device::Cpu));
    let _logit = logits.get(0).get(7).fill_(-3.0);
    assert_eq!(Vec::<f32>::try_from(choose(&logits).get(0)).unwrap(), [-3.0, f32::NEG_INFINITY, 7.0, -3.0]);
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn choice_rejects_tensors_it_cannot_read() {
    let fake = FakeDriver::open();
    let kernel = load(&fake, Storage::Half);
    let error = |logits: &Tensor| {
        let message = kernel.choose(logits).unwrap_err().to_string();
        message.replace("logits of choose does not match: ", "")
    };
    let logits = random(2, 6, 1.0, Kind::Half);
    assert_eq!(error(&logits.to_kind(Kind::Float)), "Float on Cpu, expected Half on Cpu");
    assert_eq!(error(&logits.transpose(0, 1)), "strides [1, 6], expected contiguous");
    assert_eq!(error(&logits.get(0)), "[6], expected [rows, 1 to 16777216]");
    assert_eq!(error(&logits.narrow(1, 0, 0).contiguous()), "[2, 0], expected [rows, 1 to 16777216]");
    assert_eq!(kernel.choose(&logits.narrow(0, 0, 0)).unwrap().size(), [0, 4]);
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn self_check_of_choice_finds_wrong_results() {
    let fake = FakeDriver::open();
    for storage in [Storage::Half, Storage::Float] {
        let kernel = load(&fake, storage);
        kernel.check(500).unwrap();
        fake.fail("result");
        let error = kernel.check(500).unwrap_err();
        assert!(matches!(error, CudaError::SelfCheck { kernel: "choose", .. }), "{error}");
        fake.fail("launch");
        let message = kernel.check(500).unwrap_err().to_string();
        assert_eq!(message, "CUDA driver error: unspecified launch failure");
        fake.fail("");
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn choice_compiles_for_architecture_of_device() {
    let _fake = FakeDriver::open();
    let compile = |index| ChoiceKernel::compile(Storage::Half, index).unwrap_err().to_string();
    // The fake compiler accepts the architecture of the device. Its cubin has no kernels.
    assert_eq!(compile(0), "CUDA driver error: named symbol not found");
    assert_eq!(compile(1), "CUDA driver error: invalid device ordinal");
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn choice_launches_on_current_stream() {
    let fake = FakeDriver::open();
    let kernel = load(&fake, Storage::Float);
    let logits = random(2, 6, 1.0, Kind::Float);
    let launch = || kernel.choose(&logits).map(|_| fake.current_stream(0)).unwrap();
    assert_eq!((launch(), fake.last_kernel_stream()), (0, 0));
    let stream = fake.streams.copy_stream(0).unwrap().run(launch).unwrap();
    assert_ne!(stream, 0);
    assert_eq!(fake.last_kernel_stream(), stream);
}
