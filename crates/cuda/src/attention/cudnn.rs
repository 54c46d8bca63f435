//! Attention with cuDNN.
//!
//! cuDNN has the fastest attention for long sequences on some devices, and LibTorch prefers it
//! there. However, it compiles a kernel for each new shape, which takes 0.3 s and more. Therefore
//! the program excludes cuDNN from LibTorch's choice, and calls it for fixed shapes only.

use tch::Tensor;

use crate::{error::CudaError, ffi::libtorch::StreamFunctions, stream::CudaStreams};

/// The attention of cuDNN, on a device where LibTorch prefers it.
#[derive(Debug, Clone, Copy)]
pub struct CudnnAttention(&'static StreamFunctions);

impl CudaStreams {
    /// Removes cuDNN from the attention kernels that LibTorch chooses from, in the whole process.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn exclude_cudnn_attention(self) -> Result<(), CudaError> {
        self.functions.attention_exclude_cudnn()
    }

    /// Returns the attention of cuDNN if LibTorch prefers it on `device`.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`] if the compute capability of the device is unknown.
    pub fn cudnn_attention(self, device: usize) -> Result<Option<CudnnAttention>, CudaError> {
        let is_preferred = self.functions.attention_prefers_cudnn(device)?;
        Ok(is_preferred.then_some(CudnnAttention(self.functions)))
    }
}

impl CudnnAttention {
    /// Returns `softmax(query key^T / sqrt(head dim)) value`. All tensors are `[rows, heads,
    /// positions, head dim]` in f16 or bf16.
    ///
    /// The first call for a shape compiles a kernel.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`], also if cuDNN does not support the shape.
    pub fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor, CudaError> {
        self.0.attention_cudnn([query, key, value])
    }
}
