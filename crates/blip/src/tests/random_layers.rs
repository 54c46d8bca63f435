//! Random tensors and layers for unit tests.

use tch::{Device, Kind, Tensor};

use crate::layers::{layer_norm::LayerNorm, linear::Linear};

/// Returns a tensor of normally distributed f32 numbers.
pub(crate) fn tensor(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Returns a linear layer in f32.
pub(crate) fn linear(inputs: i64, outputs: i64) -> Linear {
    Linear { weight: tensor(&[outputs, inputs]), bias: tensor(&[outputs]) }
}

/// Returns a layer norm in f32 with an epsilon of 1e-12.
pub(crate) fn norm(size: i64) -> LayerNorm {
    LayerNorm::new(tensor(&[size]), tensor(&[size]), size, 1e-12)
}
