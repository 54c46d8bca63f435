//! Options of a loaded model, and the number of images that its feature cache holds.

use std::num::NonZeroUsize;

use tch::Device;

use crate::{
    checkpoint::config::BlipConfig,
    device::kernel_backend::{CpuKernels, CudaGelu, CudaKernels},
    dtype::{Dtype, TextDtype, VisionDtype},
};

/// Options of a model besides its device and number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Size of the feature cache, in bytes. The cache always holds at least one batch of images.
    pub feature_cache_bytes: usize,
    /// Size of the cross-attention cache, in bytes. It holds keys and values of images about which
    /// questions arrive repeatedly. With 0 the model caches none.
    pub cross_attention_cache_bytes: usize,
    /// Largest number of distinct images in a batch.
    pub max_batch_images: usize,
    /// Images that the vision encoder computes at a time. More images need more memory for
    /// activations.
    pub vision_pass_images: usize,
    /// Number format of the vision encoder's products.
    pub vision_dtype: VisionDtype,
    /// Number format of the weights of text encoder and text decoder.
    pub text_dtype: TextDtype,
    /// Kernels that compute on the CPU.
    pub cpu_kernels: CpuKernels,
    /// Kernels that compute residuals and norms on CUDA.
    pub cuda_kernels: CudaKernels,
    /// Form of GELU on CUDA.
    pub cuda_gelu: CudaGelu,
    /// Largest number of tokens of an answer. `None` uses the number in the checkpoint.
    pub max_new_tokens: Option<i64>,
    /// Compute threads on the CPU. `None` uses LibTorch's number of the calling thread.
    pub threads: Option<NonZeroUsize>,
    /// Whether small batches are launched as CUDA graphs, see `docs/decisions/cuda-graphs.md`.
    pub cuda_graphs: bool,
}

impl LoadOptions {
    /// Returns the default options for a device.
    pub fn for_device(device: Device) -> Self {
        if device.is_cuda() {
            Self {
                feature_cache_bytes: 4 << 30,
                cross_attention_cache_bytes: 1 << 30,
                max_batch_images: 128,
                vision_pass_images: 16,
                vision_dtype: VisionDtype::AsModel,
                text_dtype: TextDtype::AsModel,
                cpu_kernels: CpuKernels::Auto,
                cuda_kernels: CudaKernels::Auto,
                cuda_gelu: CudaGelu::Exact,
                max_new_tokens: None,
                threads: None,
                cuda_graphs: true,
            }
        } else {
            Self {
                feature_cache_bytes: 512 << 20,
                cross_attention_cache_bytes: 512 << 20,
                max_batch_images: 16,
                vision_pass_images: 4,
                vision_dtype: VisionDtype::AsModel,
                text_dtype: TextDtype::AsModel,
                cpu_kernels: CpuKernels::Auto,
                cuda_kernels: CudaKernels::Auto,
                cuda_gelu: CudaGelu::Exact,
                max_new_tokens: None,
                threads: None,
                cuda_graphs: false,
            }
        }
    }

    /// Returns the number of images in the feature cache: as many as fit, at least one batch.
    pub(crate) fn feature_slots(&self, config: &BlipConfig, dtype: Dtype) -> NonZeroUsize {
        let slots = (self.feature_cache_bytes / image_bytes(config, dtype).max(1)).max(self.max_batch_images);
        NonZeroUsize::new(slots).unwrap_or(NonZeroUsize::MIN)
    }
}

/// Returns the size of one image's features, in bytes.
pub(crate) fn image_bytes(config: &BlipConfig, dtype: Dtype) -> usize {
    let numbers = config.vision.tokens() * config.vision.hidden_size;
    usize::try_from(numbers).unwrap_or(0) * dtype.kind().elt_size_in_bytes()
}
