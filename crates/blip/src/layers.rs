//! The building blocks of every tower: a linear layer, a layer norm, and two linear layers with a GELU between them.

use cuda::AddNorm;
use tch::{TchError, Tensor};

use crate::{error::LoadError, int8_linear::Int8Linear, packed_linear::PackedLinear, weights::Scope};

/// `x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Tensor,
    /// `[out]`.
    pub(crate) bias: Tensor,
}

impl Linear {
    /// Loads `weight` `[out, in]` and `bias` `[out]` below `scope`.
    pub(crate) fn load(scope: &Scope<'_>, inputs: i64, outputs: i64) -> Result<Self, LoadError> {
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs])?,
            bias: scope.tensor("bias", &[outputs])?,
        })
    }

    /// Loads the convolution `weight` `[out, 3, side, side]` and `bias` `[out]` below `scope`, whose windows do not overlap, as the
    /// product of each patch of `3 * side * side` numbers.
    pub(crate) fn load_patches(scope: &Scope<'_>, side: i64, outputs: i64) -> Result<Self, LoadError> {
        let weight = scope.tensor("weight", &[outputs, 3, side, side])?;
        Ok(Self {
            weight: weight.f_reshape([outputs, 3 * side * side])?,
            bias: scope.tensor("bias", &[outputs])?,
        })
    }

    /// Several layers with the same input as one product; outputs lie side by side in the order given.
    pub(crate) fn fused(layers: &[Self]) -> Result<Self, TchError> {
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Vec<&Tensor> = layers.iter().map(|layer| &layer.bias).collect();
        Ok(Self { weight: Tensor::f_cat(&weights, 0)?, bias: Tensor::f_cat(&biases, 0)? })
    }

    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_linear(&self.weight, Some(&self.bias))
    }
}

/// A linear layer as its device, size and number format want it.
#[derive(Debug)]
pub(crate) enum Dense {
    /// In the model's own format.
    Plain(Linear),
    /// In f32, laid out for the CPU's kernels.
    Packed(PackedLinear),
    /// In 8-bit integers.
    Int8(Int8Linear),
}

impl Dense {
    /// A layer in the model's own format, packed where it can be.
    pub(crate) fn new(linear: Linear) -> Result<Self, TchError> {
        Ok(match PackedLinear::suits(&linear) {
            true => Self::Packed(PackedLinear::new(&linear)?),
            false => Self::Plain(linear),
        })
    }

    /// Loads `weight` `[out, in]` and `bias` `[out]` below `scope`.
    pub(crate) fn load(scope: &Scope<'_>, inputs: i64, outputs: i64) -> Result<Self, LoadError> {
        Ok(Self::new(Linear::load(scope, inputs, outputs)?)?)
    }

    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(linear) => linear.forward(input),
            Self::Packed(linear) => linear.forward(input),
            Self::Int8(linear) => linear.forward(input),
        }
    }

    /// As [`Self::forward`], with the exact (erf) GELU of the result.
    pub(crate) fn forward_gelu(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(linear) => linear.forward(input)?.f_gelu_("none"),
            Self::Packed(linear) => linear.forward_gelu(input),
            Self::Int8(linear) => linear.forward(input)?.f_gelu_("none"),
        }
    }
}

/// Layer norm over the last dimension: biased variance, affine. LibTorch accumulates in f32 whatever the kind, and so do kernels
/// of our own.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
    eps: f64,
    /// What adds and normalises in one kernel, where there is one.
    own: Option<AddNorm>,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both `[size]`, below `scope`.
    pub(crate) fn load(scope: &Scope<'_>, size: i64, eps: f64) -> Result<Self, LoadError> {
        let (weight, bias) = (scope.tensor("weight", &[size])?, scope.tensor("bias", &[size])?);
        let own = scope.own_norms().map(|norms| norms.kernel([&weight, &bias], size, eps));
        let own = own.transpose().map_err(TchError::from)?.flatten();
        Ok(Self { weight, bias, size, eps, own })
    }

    /// Same shape out as in.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_layer_norm([self.size], Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// Adds what a sublayer made, `delta`, to `states` where they lie, and returns the norm of the sum, which the next sublayer
    /// reads (pre-norm).
    pub(crate) fn add_then_norm(&self, states: &mut Tensor, delta: &Tensor) -> Result<Tensor, TchError> {
        debug_assert!(lie_alike(states, delta));
        match &self.own {
            Some(kernel) => Ok(kernel.add_then_norm(states, delta)?),
            None => self.forward(&states.f_add_(delta)?),
        }
    }

    /// The norm of `output + residual`, as every text layer ends (post-norm).
    pub(crate) fn forward_residual(&self, output: Tensor, residual: &Tensor) -> Result<Tensor, TchError> {
        debug_assert!(lie_alike(&output, residual));
        match &self.own {
            Some(kernel) => Ok(kernel.norm_of_sum(output, residual)?),
            None => {
                let mut sum = output;
                self.forward(&sum.f_add_(residual)?)
            }
        }
    }
}

/// What kernels of our own require of two summands, and LibTorch's do not: asked on every device, so that tests on the CPU show it.
fn lie_alike(one: &Tensor, other: &Tensor) -> bool {
    one.size() == other.size() && one.is_contiguous() && other.is_contiguous()
}

/// Two linear layers with the exact (erf) GELU between them.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) up: Dense,
    pub(crate) down: Dense,
}

impl FeedForward {
    /// `[.., hidden]` to `[.., hidden]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.down.forward(&self.up.forward_gelu(input)?)
    }
}

/// Random tensors and layers, for tests of layers.
#[cfg(test)]
pub(crate) mod random {
    use tch::{Device, Kind, Tensor};

    use super::{LayerNorm, Linear};

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
        LayerNorm { weight: tensor(&[size]), bias: tensor(&[size]), size, eps: 1e-12, own: None }
    }
}
