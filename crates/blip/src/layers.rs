//! The building blocks of every tower: a linear layer, a layer norm, and two linear layers with a GELU between them.

use tch::{TchError, Tensor};

use crate::{error::LoadError, int8_linear::Int8Linear, weights::Scope};

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

/// A linear layer in the number format that its tower was given.
#[derive(Debug)]
pub(crate) enum Dense {
    /// In the model's own.
    Float(Linear),
    /// In 8-bit integers.
    Int8(Int8Linear),
}

impl Dense {
    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Float(linear) => linear.forward(input),
            Self::Int8(linear) => linear.forward(input),
        }
    }
}

/// Layer norm over the last dimension: biased variance, affine. LibTorch accumulates in f32 whatever the kind.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
    eps: f64,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both `[size]`, below `scope`.
    pub(crate) fn load(scope: &Scope<'_>, size: i64, eps: f64) -> Result<Self, LoadError> {
        Ok(Self { weight: scope.tensor("weight", &[size])?, bias: scope.tensor("bias", &[size])?, size, eps })
    }

    /// Same shape out as in.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_layer_norm([self.size], Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// The norm of `output + residual`, as every text layer ends (post-norm).
    pub(crate) fn forward_residual(&self, output: Tensor, residual: &Tensor) -> Result<Tensor, TchError> {
        let mut sum = output;
        self.forward(&sum.f_add_(residual)?)
    }
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
        let mut inner = self.up.forward(input)?;
        self.down.forward(&inner.f_gelu_("none")?)
    }
}
