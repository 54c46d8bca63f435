//! The linear layer with GELU, on the CPU, where LibTorch computes the exact form.

use tch::{Device, Kind, Tensor};

use crate::fake_driver::FakeDriver;

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn linear_gelu_is_the_layer_and_the_function() {
    let fake = FakeDriver::open();
    let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let (input, weight, bias) = (random(&[5, 16]), random(&[24, 16]), random(&[24]));
    let found = fake.streams.linear_gelu(&input, &weight, &bias).unwrap();
    let expected = input.linear(&weight, Some(&bias)).gelu("none");
    assert_eq!(found.size(), [5, 24]);
    assert!((found - expected).abs().max().double_value(&[]) < 1e-5);
    let error = fake.streams.linear_gelu(&input, &bias, &bias).unwrap_err().to_string();
    assert!(error.contains("mat2 must be a matrix"), "{error}");
}
