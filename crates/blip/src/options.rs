//! Options of a loaded model, and the number of images that its feature cache holds.

use std::num::NonZeroUsize;

use tch::Device;

use crate::{
    checkpoint::config::BlipConfig,
    device::kernel_backend::{CpuKernels, CudaGelu, CudaKernels},
    dtype::{Dtype, PartDtype},
    error::LoadError,
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
    /// Number format of the image encoder.
    pub vision_dtype: PartDtype,
    /// Number format of text encoder and text decoder.
    pub text_dtype: PartDtype,
    /// Kernels that compute on the CPU.
    pub cpu_kernels: CpuKernels,
    /// Kernels that compute residuals and norms, choose tokens, and round to FP8 on CUDA.
    pub cuda_kernels: CudaKernels,
    /// Form of GELU on CUDA.
    pub cuda_gelu: CudaGelu,
    /// Largest number of tokens of an answer. `None` uses the number in the checkpoint.
    pub max_new_tokens: Option<i64>,
    /// Compute threads on the CPU. `None` uses LibTorch's number of the calling thread.
    pub threads: Option<NonZeroUsize>,
    /// Whether small batches are launched as CUDA graphs, see `docs/decisions/cuda-graphs.md`.
    pub cuda_graphs: bool,
    /// Whether a model on CUDA computes on another stream than LibTorch's default stream. Work
    /// of several models on one device can then overlap. The stream becomes the current one of the
    /// thread that loads the model.
    pub separate_cuda_stream: bool,
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
                vision_dtype: PartDtype::AsModel,
                text_dtype: PartDtype::AsModel,
                cpu_kernels: CpuKernels::Auto,
                cuda_kernels: CudaKernels::Auto,
                cuda_gelu: CudaGelu::Exact,
                max_new_tokens: None,
                threads: None,
                cuda_graphs: true,
                separate_cuda_stream: false,
            }
        } else {
            Self {
                feature_cache_bytes: 512 << 20,
                cross_attention_cache_bytes: 512 << 20,
                max_batch_images: 16,
                vision_pass_images: 4,
                vision_dtype: PartDtype::AsModel,
                text_dtype: PartDtype::AsModel,
                cpu_kernels: CpuKernels::Auto,
                cuda_kernels: CudaKernels::Auto,
                cuda_gelu: CudaGelu::Exact,
                max_new_tokens: None,
                threads: None,
                cuda_graphs: false,
                separate_cuda_stream: false,
            }
        }
    }

    /// Checks that a model in `dtype` on `device` supports these options.
    ///
    /// # Errors
    /// [`LoadError`] names the option, its value and what is expected.
    pub fn check(&self, device: Device, dtype: Dtype) -> Result<(), LoadError> {
        let name = || format!("{device:?}").to_lowercase();
        let (tensors, parts) = self.number_formats(device, dtype);
        let kernels = self.cpu_kernels;
        let kernels_name = || kernels.to_string();
        if dtype == Dtype::Int8 && !kernels.are_native(device, tensors) {
            return Err(LoadError::Int8Unsupported { device: name(), kernels: kernels_name() });
        }
        self.cpu_kernels.check(device, tensors)?;
        self.cuda_kernels.check(device, tensors)?;
        self.cuda_gelu.check(device)?;
        for (part, format) in [("vision", parts.vision), ("text", parts.text)] {
            match format {
                PartDtype::AsModel => continue,
                PartDtype::Fp8 if (part, tensors) == ("vision", Dtype::F16) && device.is_cuda() => continue,
                PartDtype::Fp8 => return Err(LoadError::Fp8Unsupported { part, device: name(), dtype }),
                PartDtype::Bf16 | PartDtype::Int8 => {}
            }
            if !kernels.are_native(device, tensors) {
                let (device, kernels) = (name(), kernels_name());
                return Err(LoadError::PartUnsupported { part, format, device, dtype, kernels });
            }
            if !format.number_format().is_supported() {
                let option = match part {
                    "vision" if self.vision_dtype == format => "vision_dtype",
                    "text" if self.text_dtype == format => "text_dtype",
                    _ => "dtype",
                };
                return Err(LoadError::NoIntegerProducts { option });
            }
        }
        Ok(())
    }

    /// Returns the number format of the tensors of a model in `dtype`, and those of its parts.
    ///
    /// On the CPU, native kernels compute in bf16 and int8 with tensors in f32.
    pub(crate) fn number_formats(&self, device: Device, dtype: Dtype) -> (Dtype, PartDtypes) {
        let is_native = self.cpu_kernels.are_native(device, Dtype::F32);
        let (tensors, of_model) = match dtype {
            Dtype::Bf16 if is_native => (Dtype::F32, PartDtype::Bf16),
            Dtype::Int8 => (Dtype::F32, PartDtype::Int8),
            other => (other, PartDtype::AsModel),
        };
        let or_model = |part| if part == PartDtype::AsModel { of_model } else { part };
        (tensors, PartDtypes { vision: or_model(self.vision_dtype), text: or_model(self.text_dtype) })
    }

    /// Returns the number of images in the feature cache: as many as fit, at least one batch.
    ///
    /// A number has `number_bytes` bytes.
    pub(crate) fn feature_slots(&self, config: &BlipConfig, number_bytes: usize) -> NonZeroUsize {
        let numbers = usize::try_from(config.vision.tokens() * config.vision.hidden_size).unwrap_or(0);
        let slots = self.feature_cache_bytes / (numbers * number_bytes).max(1);
        let slots = slots.max(self.max_batch_images);
        NonZeroUsize::new(slots).unwrap_or(NonZeroUsize::MIN)
    }
}

/// The number formats of a model's parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartDtypes {
    pub(crate) vision: PartDtype,
    pub(crate) text: PartDtype,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(device: Device, dtype: Dtype, options: LoadOptions) -> Result<(), String> {
        options.check(device, dtype).map_err(|error| error.to_string())
    }

    fn cpu_options() -> LoadOptions {
        LoadOptions::for_device(Device::Cpu)
    }

    #[test]
    fn parts_have_the_number_format_of_the_model_by_default() {
        let options = LoadOptions { text_dtype: PartDtype::Bf16, ..cpu_options() };
        for (dtype, expected) in [
            (Dtype::F32, (Dtype::F32, PartDtype::AsModel, PartDtype::Bf16)),
            (Dtype::Bf16, (Dtype::F32, PartDtype::Bf16, PartDtype::Bf16)),
            (Dtype::Int8, (Dtype::F32, PartDtype::Int8, PartDtype::Bf16)),
            (Dtype::F16, (Dtype::F16, PartDtype::AsModel, PartDtype::Bf16)),
        ] {
            let (tensors, parts) = options.number_formats(Device::Cpu, dtype);
            assert_eq!((tensors, parts.vision, parts.text), expected, "{dtype}");
        }
        let libtorch = LoadOptions { cpu_kernels: CpuKernels::LibTorch, ..cpu_options() };
        for (device, options) in [(Device::Cpu, libtorch), (Device::Cuda(0), cpu_options())] {
            let (tensors, parts) = options.number_formats(device, Dtype::Bf16);
            assert_eq!((tensors, parts.vision), (Dtype::Bf16, PartDtype::AsModel));
        }
    }

    #[test]
    fn tensor_formats_need_no_other_options() {
        for device in [Device::Cpu, Device::Cuda(0)] {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
                assert_eq!(
                    check(device, dtype, LoadOptions::for_device(device)),
                    Ok(()),
                    "{dtype} on {device:?}"
                );
            }
        }
    }

    #[test]
    fn parts_in_bf16_need_native_kernels_on_cpu() {
        let bf16 = LoadOptions { text_dtype: PartDtype::Bf16, ..cpu_options() };
        for dtype in [Dtype::F32, Dtype::Bf16] {
            assert_eq!(check(Device::Cpu, dtype, bf16), Ok(()));
        }
        let libtorch = LoadOptions { cpu_kernels: CpuKernels::LibTorch, ..bf16 };
        assert_eq!(
            check(Device::Cpu, Dtype::F32, libtorch).unwrap_err(),
            "text_dtype bf16 is not available: model in f32 on cpu with cpu_kernels libtorch, expected f32, \
             bf16 or int8 on cpu with auto or native"
        );
        assert!(check(Device::Cuda(0), Dtype::F32, bf16).is_err());
        assert!(check(Device::Cpu, Dtype::F16, bf16).is_err());
        let vision = LoadOptions { vision_dtype: PartDtype::Bf16, ..cpu_options() };
        assert!(check(Device::Cuda(1), Dtype::F16, vision).unwrap_err().starts_with("vision_dtype bf16 is"));
    }

    #[test]
    fn int8_needs_the_cpu() {
        let libtorch = LoadOptions { cpu_kernels: CpuKernels::LibTorch, ..cpu_options() };
        for (device, options) in [(Device::Cpu, libtorch), (Device::Cuda(0), cpu_options())] {
            assert!(
                check(device, Dtype::Int8, options).unwrap_err().starts_with("dtype int8 is not available")
            );
        }
        let images = LoadOptions { vision_dtype: PartDtype::Int8, ..libtorch };
        for (device, dtype, name) in
            [(Device::Cpu, Dtype::F32, "f32 on cpu"), (Device::Cuda(1), Dtype::F16, "f16 on cuda(1)")]
        {
            assert!(check(device, dtype, images).unwrap_err().contains(&format!("model in {name}")));
        }
        let supported = cpu_kernels::NumberFormat::Int8.is_supported();
        let found = check(Device::Cpu, Dtype::Int8, cpu_options());
        assert_eq!(found.is_ok(), supported);
        assert!(supported || found.unwrap_err().contains("the processor lacks AVX2"));
    }

    #[test]
    fn fp8_needs_images_in_f16_on_cuda() {
        let images = LoadOptions { vision_dtype: PartDtype::Fp8, ..LoadOptions::for_device(Device::Cuda(0)) };
        assert_eq!(check(Device::Cuda(1), Dtype::F16, images), Ok(()));
        for (device, dtype) in [(Device::Cuda(0), Dtype::Bf16), (Device::Cpu, Dtype::F16)] {
            let message = check(device, dtype, images).unwrap_err();
            assert!(
                message.starts_with(&format!("vision_dtype fp8 is not available: model in {dtype} on c"))
            );
            assert!(message.ends_with(", expected vision_dtype of a model in f16 on cuda"), "{message}");
        }
        let texts = LoadOptions { text_dtype: PartDtype::Fp8, ..images };
        let message = check(Device::Cuda(0), Dtype::F16, texts).unwrap_err();
        assert!(message.starts_with("text_dtype fp8 is not available"), "{message}");
    }

    #[test]
    fn number_format_parses_from_its_display_form() {
        for part in [PartDtype::AsModel, PartDtype::Bf16, PartDtype::Int8, PartDtype::Fp8] {
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        assert!("f16".parse::<PartDtype>().unwrap_err().contains("auto, bf16, int8 or fp8"));
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
    }
}
