//! Layer norm, alone or with a residual.

use cuda::AddNorm;
use tch::{TchError, Tensor};

use crate::{error::LoadError, layers::weight_path::WeightPath};

/// Layer norm over the last dimension: biased variance, affine. LibTorch and the fused kernels
/// accumulate in f32 for every number format.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
    eps: f64,
    /// What adds and normalises in one kernel, where there is one.
    fused: Option<AddNorm>,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both `[size]`, below `path`.
    pub(crate) fn load(path: &WeightPath<'_>, size: i64, eps: f64) -> Result<Self, LoadError> {
        let (weight, bias) = (path.tensor("weight", &[size])?, path.tensor("bias", &[size])?);
        let fused = path.fused_norms().map(|norms| norms.kernel([&weight, &bias], size, eps));
        let fused = fused.transpose().map_err(TchError::from)?.flatten();
        Ok(Self { weight, bias, size, eps, fused })
    }

    /// Creates a layer norm that LibTorch's kernels compute.
    #[cfg(test)]
    pub(crate) fn new(weight: Tensor, bias: Tensor, size: i64, eps: f64) -> Self {
        Self { weight, bias, size, eps, fused: None }
    }

    /// Same shape out as in.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_layer_norm([self.size], Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// Adds what a sublayer made, `delta`, to `states` where they lie, and returns the norm of the sum, which the next sublayer
    /// reads (pre-norm).
    pub(crate) fn add_then_norm(&self, states: &mut Tensor, delta: &Tensor) -> Result<Tensor, TchError> {
        debug_assert!(lie_alike(states, delta));
        match &self.fused {
            Some(kernel) => Ok(kernel.add_then_norm(states, delta)?),
            None => self.forward(&states.f_add_(delta)?),
        }
    }

    /// The norm of `output + residual`, as every text layer ends (post-norm).
    pub(crate) fn forward_residual(&self, output: Tensor, residual: &Tensor) -> Result<Tensor, TchError> {
        debug_assert!(lie_alike(&output, residual));
        match &self.fused {
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
