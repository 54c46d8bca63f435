//! Linear layers in the layout that suits their device, size and number format, and the
//! feed-forward block.

use std::sync::Arc;

use cpu_kernels::{CpuLinear, Epilogue};
use tch::{TchError, Tensor};

use crate::{
    device::kernel_backend::CudaGelu,
    error::LoadError,
    layers::{
        fp8_linear::Fp8Linear, layer_norm::LayerNorm, linear::Linear, native_linear::NativeLinear,
        onednn::packed_linear::PackedLinear, weight_path::WeightPath,
    },
    parallel::ParallelKernels,
};

/// A linear layer in the layout that suits its device, size and number format.
#[derive(Debug)]
pub(crate) enum Dense {
    /// Number format of the model, with the form of GELU.
    Plain(Linear, CudaGelu),
    /// f32, packed for the native kernels of the CPU.
    Native(NativeLinear),
    /// f32, packed for oneDNN's kernels of the CPU.
    Packed(PackedLinear),
    /// 8-bit floating point, on CUDA.
    Fp8(Fp8Linear),
}

impl Dense {
    /// Creates a layer in the model's number format, packed if possible. It uses the native
    /// `kernels`, if there are any. `gelu` applies on CUDA.
    pub(crate) fn new(
        linear: Linear,
        kernels: Option<&ParallelKernels>,
        gelu: CudaGelu,
    ) -> Result<Self, TchError> {
        Ok(match kernels {
            Some(kernels) => Self::Native(NativeLinear::new(&linear, kernels)?),
            None if PackedLinear::is_supported(&linear) => Self::Packed(PackedLinear::new(&linear)?),
            None => Self::Plain(linear, gelu),
        })
    }

    /// Loads `weight` `[out, in]` and `bias` `[out]` below `path`.
    pub(crate) fn load(path: &WeightPath<'_>, inputs: i64, outputs: i64) -> Result<Self, LoadError> {
        Ok(Self::new(Linear::load(path, inputs, outputs)?, path.kernels(), path.cuda_gelu())?)
    }

    /// Returns the weights for the native kernels of the CPU, if the layer uses them.
    pub(crate) fn native(&self) -> Option<&Arc<CpuLinear>> {
        match self {
            Self::Native(linear) => Some(linear.weights()),
            Self::Plain(..) | Self::Packed(_) | Self::Fp8(_) => None,
        }
    }

    /// Computes the layer, `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(linear, _) => linear.forward(input),
            Self::Native(linear) => linear.forward(input, Epilogue::Store),
            Self::Packed(linear) => linear.forward(input),
            Self::Fp8(linear) => linear.forward(input),
        }
    }

    /// Computes the layer and the GELU of its result, `[.., in]` to `[.., out]`. The result of a
    /// layer in FP8 is in FP8, too.
    pub(crate) fn forward_gelu(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Plain(linear, CudaGelu::Exact) => linear.forward(input)?.f_gelu_("none"),
            Self::Plain(linear, CudaGelu::Tanh) => linear.forward_cuda_gelu(input),
            Self::Native(linear) => linear.forward(input, Epilogue::Gelu),
            Self::Packed(linear) => linear.forward_gelu(input),
            Self::Fp8(linear) => linear.forward_gelu(input),
        }
    }

    /// Returns the norm of the layer's result plus `residual`, in the shape of `residual`.
    pub(crate) fn forward_residual(
        &self,
        input: &Tensor,
        residual: &Tensor,
        norm: &LayerNorm,
    ) -> Result<Tensor, TchError> {
        match (self, norm.native()) {
            (Self::Native(linear), Some(norm)) => linear.forward_residual(input, residual, norm),
            _ => norm.forward_residual(self.forward(input)?, residual),
        }
    }
}

/// Two linear layers with GELU between them.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) up: Dense,
    pub(crate) down: Dense,
}

impl FeedForward {
    /// Returns the norm of the block's result plus its input `states` `[.., hidden]`, in the same
    /// shape.
    pub(crate) fn forward_residual(&self, states: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
        match (&self.up, &self.down, norm.native()) {
            (Dense::Native(up), Dense::Native(down), Some(norm)) => up.feed_forward(down, states, norm),
            (up, down, _) => norm.forward_residual(down.forward(&up.forward_gelu(states)?)?, states),
        }
    }

    /// Computes the block, `[.., hidden]` to `[.., hidden]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.down.forward(&self.up.forward_gelu(input)?)
    }
}
