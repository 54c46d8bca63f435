//! Layer norm, with or without a residual.

use std::sync::Arc;

use cpu_kernels::CpuLayerNorm;
use cuda::AddNorm;
use tch::{TchError, Tensor};

use crate::{
    error::LoadError,
    layers::{native_linear::copied, weight_path::WeightPath},
};

/// Layer norm over the last dimension: biased variance, affine. LibTorch and the fused kernels
/// accumulate in f32 for every number format.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
    eps: f64,
    /// Native kernel that adds and normalizes in one pass, if available.
    fused: Option<AddNorm>,
    /// The same norm for the native kernels of the CPU, if the layers use them.
    native: Option<Arc<CpuLayerNorm>>,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both `[size]`, below `path`.
    pub(crate) fn load(path: &WeightPath<'_>, size: i64, eps: f64) -> Result<Self, LoadError> {
        let (weight, bias) = (path.tensor("weight", &[size])?, path.tensor("bias", &[size])?);
        let fused = path.fused_kernels().map(|kernels| kernels.norm([&weight, &bias], size, eps));
        let fused = fused.transpose().map_err(TchError::from)?.flatten();
        let native = path.kernels().map(|_| -> Result<_, TchError> {
            Ok(Arc::new(CpuLayerNorm::new(copied(&weight)?, copied(&bias)?, eps as f32)))
        });
        let native = native.transpose()?;
        Ok(Self { weight, bias, size, eps, fused, native })
    }

    /// Lets [`Self::add_then_norm`] return norms in FP8, if a native kernel does.
    pub(crate) fn with_fp8_norms(self) -> Self {
        Self { fused: self.fused.map(AddNorm::with_fp8_norms), ..self }
    }

    /// Creates a layer norm that LibTorch's kernels compute.
    #[cfg(test)]
    pub(crate) fn new(weight: Tensor, bias: Tensor, size: i64, eps: f64) -> Self {
        Self { weight, bias, size, eps, fused: None, native: None }
    }

    /// Returns the norm for the native kernels of the CPU, if the layers use them.
    pub(crate) fn native(&self) -> Option<&Arc<CpuLayerNorm>> {
        self.native.as_ref()
    }

    /// Computes the norm, with the shape of the input.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_layer_norm([self.size], Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// Adds the output `delta` of a sublayer to `states` in place, and returns the norm of the sum.
    /// The next sublayer reads this norm (pre-norm).
    pub(crate) fn add_then_norm(&self, states: &mut Tensor, delta: &Tensor) -> Result<Tensor, TchError> {
        debug_assert!(have_same_layout(states, delta));
        match &self.fused {
            Some(kernel) => Ok(kernel.add_then_norm(states, delta)?),
            None => self.forward(&states.f_add_(delta)?),
        }
    }

    /// Returns the norm of `output + residual`, the last step of every text layer (post-norm).
    pub(crate) fn forward_residual(&self, output: Tensor, residual: &Tensor) -> Result<Tensor, TchError> {
        debug_assert!(have_same_layout(&output, residual));
        match &self.fused {
            Some(kernel) => Ok(kernel.norm_of_sum(output, residual)?),
            None => {
                let mut sum = output;
                self.forward(&sum.f_add_(residual)?)
            }
        }
    }
}

/// Returns whether two summands have the equal contiguous layout that the native kernels require.
/// LibTorch does not require it. The check runs on every device, so that tests on the CPU cover it.
fn have_same_layout(one: &Tensor, other: &Tensor) -> bool {
    one.size() == other.size() && one.is_contiguous() && other.is_contiguous()
}
