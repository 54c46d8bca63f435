//! The kernels that round to FP8, compiled for the host, against LibTorch's operators.

use std::sync::OnceLock;

use cuda::{CudaError, Fp8Kernels, round_to_fp8, rounding_error};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::fake_driver::{FakeDriver, compile_fp8};

/// Loads the kernels, which it compiles once.
fn load(_fake: &FakeDriver) -> Fp8Kernels {
    static CUBIN: OnceLock<Vec<u8>> = OnceLock::new();
    Fp8Kernels::load(Device::Cpu, CUBIN.get_or_init(compile_fp8)).unwrap()
}

/// Returns every number of f16, which has 16 bits.
fn all_halves() -> Tensor {
    let bits: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect();
    Tensor::from_data_size(&bits, &[1 << 16], Kind::Half)
}

/// Returns the bits of numbers in FP8.
fn bits(numbers: &Tensor) -> Vec<u8> {
    Vec::try_from(numbers.view_dtype(Kind::Uint8).flatten(0, -1)).unwrap()
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn every_half_is_rounded_as_by_libtorch() {
    let fake = FakeDriver::open();
    let numbers = all_halves();
    let found = load(&fake).quantize(&numbers).unwrap();
    let expected = round_to_fp8(&numbers).unwrap();
    let (found, expected) = (bits(&found), bits(&expected));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        // NaN has two forms.
        assert_eq!(found & 0x7f, expected & 0x7f, "{index:#x}");
        assert!(found == expected || expected & 0x7f == 0x7f, "{index:#x}");
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn gelu_of_every_half_is_a_neighbour_of_the_exact_one() {
    let fake = FakeDriver::open();
    let numbers = all_halves();
    let found = load(&fake).gelu_quantize(&numbers).unwrap().to_kind(Kind::Double);
    let exact = numbers.to_kind(Kind::Double).gelu("none");
    // NaN has none, and neither has the product of 0 and infinity.
    let is_finite = numbers.isfinite();
    let worst = rounding_error(&found.masked_select(&is_finite), &exact.masked_select(&is_finite)).unwrap();
    assert!(worst <= 1.001, "{worst}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    #[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
    fn any_number_of_vectors_is_rounded(rows in 0i64..40, width in 1i64..40, deviation in 0.01f64..300.0) {
        let fake = FakeDriver::open();
        let kernels = load(&fake);
        let input = Tensor::randn([rows, 16 * width], (Kind::Float, Device::Cpu)) * deviation;
        let input = input.to_kind(Kind::Half);
        let found = kernels.quantize(&input).unwrap();
        prop_assert_eq!(found.size(), input.size());
        prop_assert_eq!(bits(&found), bits(&round_to_fp8(&input).unwrap()));
        let gelu = kernels.gelu_quantize(&input).unwrap();
        prop_assert_eq!((gelu.size(), gelu.kind()), (input.size(), Kind::Float8e4m3fn));
    }
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn rounding_rejects_tensors_it_cannot_read() {
    let fake = FakeDriver::open();
    let kernels = load(&fake);
    let error = |numbers: &Tensor| {
        let message = kernels.quantize(numbers).unwrap_err().to_string();
        message.replace("input of quantize does not match: ", "")
    };
    let numbers = Tensor::zeros([3, 16], (Kind::Half, Device::Cpu));
    assert_eq!(error(&numbers.to_kind(Kind::Float)), "Float on Cpu, expected Half on Cpu");
    assert_eq!(error(&numbers.transpose(0, 1)), "strides [1, 16], expected contiguous");
    assert_eq!(error(&numbers.get(0).narrow(0, 0, 8)), "8 numbers, expected a multiple of 16");
    let shifted = numbers.flatten(0, -1).narrow(0, 1, 32);
    assert!(error(&shifted).ends_with("expected a multiple of 16"));
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn self_check_of_fp8_finds_wrong_results() {
    let fake = FakeDriver::open();
    let kernels = load(&fake);
    kernels.check().unwrap();
    fake.fail("result");
    let error = kernels.check().unwrap_err();
    assert!(matches!(error, CudaError::SelfCheck { kernel: "quantize", .. }), "{error}");
    fake.fail("launch");
    let message = kernels.check().unwrap_err().to_string();
    assert_eq!(message, "CUDA driver error: unspecified launch failure");
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn rounding_launches_on_current_stream() {
    let fake = FakeDriver::open();
    let kernels = load(&fake);
    let numbers = Tensor::ones([16], (Kind::Half, Device::Cpu));
    let launch = || kernels.quantize(&numbers).map(|_| fake.current_stream(0)).unwrap();
    assert_eq!((launch(), fake.last_kernel_stream()), (0, 0));
    let stream = fake.streams.copy_stream(0).unwrap().run(launch).unwrap();
    assert_ne!(stream, 0);
    assert_eq!(fake.last_kernel_stream(), stream);
}
