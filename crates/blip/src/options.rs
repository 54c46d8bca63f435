//! Options of a model beyond its device and number format.

use std::num::NonZeroUsize;

use tch::Device;

use crate::{
    checkpoint::config::BlipConfig,
    device::kernel_backend::{CpuKernels, CudaKernels},
    dtype::{Dtype, VisionDtype},
};

/// Options of a model beyond its device and number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Memory for the features of images that were seen, in bytes; at least one batch of images is always kept.
    pub feature_cache_bytes: usize,
    /// Memory for the keys and values that questions read of images which are asked about again and again, in bytes; 0 keeps none.
    pub cross_attention_cache_bytes: usize,
    /// Distinct images that one batch may have.
    pub max_batch_images: usize,
    /// Images that go through the vision encoder together; more need more memory for activations.
    pub vision_pass_images: usize,
    /// The number format of the image encoder's products.
    pub vision_dtype: VisionDtype,
    /// Whose kernels compute on the CPU.
    pub cpu_kernels: CpuKernels,
    /// Whose kernels compute on CUDA what lies between the products.
    pub cuda_kernels: CudaKernels,
    /// Tokens that an answer may have, if not the checkpoint's own number.
    pub max_new_tokens: Option<i64>,
    /// Launch small batches as CUDA graphs. Off by default: see `docs/decisions/cuda-graphs.md`.
    pub cuda_graphs: bool,
}

impl LoadOptions {
    /// Sane choices for a device.
    pub fn for_device(device: Device) -> Self {
        if device.is_cuda() {
            Self {
                feature_cache_bytes: 4 << 30,
                cross_attention_cache_bytes: 1 << 30,
                max_batch_images: 128,
                vision_pass_images: 16,
                vision_dtype: VisionDtype::AsModel,
                cpu_kernels: CpuKernels::Auto,
                cuda_kernels: CudaKernels::LibTorch,
                max_new_tokens: None,
                cuda_graphs: false,
            }
        } else {
            Self {
                feature_cache_bytes: 512 << 20,
                cross_attention_cache_bytes: 512 << 20,
                max_batch_images: 16,
                vision_pass_images: 4,
                vision_dtype: VisionDtype::AsModel,
                cpu_kernels: CpuKernels::Auto,
                cuda_kernels: CudaKernels::LibTorch,
                max_new_tokens: None,
                cuda_graphs: false,
            }
        }
    }

    /// Images whose features are kept: as many as fit, and at least a batch of them.
    pub(crate) fn feature_slots(&self, config: &BlipConfig, dtype: Dtype) -> NonZeroUsize {
        let slots = (self.feature_cache_bytes / image_bytes(config, dtype).max(1)).max(self.max_batch_images);
        NonZeroUsize::new(slots).unwrap_or(NonZeroUsize::MIN)
    }
}

/// Size of one image's features in bytes.
pub(crate) fn image_bytes(config: &BlipConfig, dtype: Dtype) -> usize {
    let numbers = config.vision.tokens() * config.vision.hidden_size;
    usize::try_from(numbers).unwrap_or(0) * dtype.kind().elt_size_in_bytes()
}
