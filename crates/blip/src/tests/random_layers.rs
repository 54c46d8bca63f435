//! Random tensors and layers for unit tests.

use tch::{Device, Kind, Tensor};

use crate::layers::{layer_norm::LayerNorm, linear::Linear};

/// Normally distributed numbers in f32.
pub(crate) fn tensor(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// A linear layer in f32.
pub(crate) fn linear(inputs: i64, outputs: i64) -> Linear {
    Linear { weight: tensor(&[outputs, inputs]), bias: tensor(&[outputs]) }
}

/// A layer norm in f32.
pub(crate) fn norm(size: i64) -> LayerNorm {
    LayerNorm::new(tensor(&[size]), tensor(&[size]), size, 1e-12)
}
