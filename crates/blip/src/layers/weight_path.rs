//! Access to the tensors below a prefix of tensor names.

use std::{borrow::Cow, fmt::Display};

use tch::{Device, Kind, Tensor};

use crate::{
    checkpoint::weights::Weights, device::kernel_backend::CudaGelu, error::LoadError,
    layers::fused_kernels::FusedKernels, parallel::ParallelKernels,
};

/// Prefix of tensor names, with the device, the number format and the native kernels of the layers
/// below it.
#[derive(Debug, Clone)]
pub(crate) struct WeightPath<'a> {
    weights: &'a Weights,
    prefix: Cow<'a, str>,
    device: Device,
    kind: Kind,
    fused_kernels: Option<&'a FusedKernels>,
    kernels: Option<&'a ParallelKernels>,
    cuda_gelu: CudaGelu,
}

impl<'a> WeightPath<'a> {
    pub(crate) fn root(weights: &'a Weights, device: Device, kind: Kind) -> Self {
        let (prefix, cuda_gelu) = (Cow::Borrowed(""), CudaGelu::default());
        Self { weights, prefix, device, kind, fused_kernels: None, kernels: None, cuda_gelu }
    }

    /// Returns the device of the layers.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Sets the native CUDA kernels of the layers below this path.
    pub(crate) fn with_fused_kernels(self, fused_kernels: Option<&'a FusedKernels>) -> Self {
        Self { fused_kernels, ..self }
    }

    /// Returns the native CUDA kernels, if available.
    pub(crate) fn fused_kernels(&self) -> Option<&'a FusedKernels> {
        self.fused_kernels
    }

    /// Sets the native kernels of the CPU.
    pub(crate) fn with_kernels(self, kernels: Option<&'a ParallelKernels>) -> Self {
        Self { kernels, ..self }
    }

    /// Returns the native kernels of the CPU, if the layers use them.
    pub(crate) fn kernels(&self) -> Option<&'a ParallelKernels> {
        self.kernels
    }

    /// Sets the form of GELU on CUDA.
    pub(crate) fn with_cuda_gelu(self, cuda_gelu: CudaGelu) -> Self {
        Self { cuda_gelu, ..self }
    }

    /// Returns the form of GELU on CUDA.
    pub(crate) fn cuda_gelu(&self) -> CudaGelu {
        self.cuda_gelu
    }

    /// Returns the path `name` below this path.
    pub(crate) fn at(&self, name: impl Display) -> Self {
        Self { prefix: Cow::Owned(self.name(name)), ..self.clone() }
    }

    fn name(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Loads the tensor `name` of this `shape` below this path.
    ///
    /// # Errors
    /// [`LoadError`] if the tensor is missing, has another shape or cannot be read.
    pub(crate) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, LoadError> {
        self.weights.load(&self.name(name), shape, self.device, self.kind)
    }

    /// Loads the first of `names` that the files have. The names are complete, from the root.
    pub(crate) fn first_of(&self, names: [&str; 2], shape: &[i64]) -> Result<Tensor, LoadError> {
        let [first, second] = names;
        let name = if self.weights.contains(first) { first } else { second };
        self.weights.load(name, shape, self.device, self.kind)
    }
}
