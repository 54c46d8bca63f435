//! Choice of kernels on the CPU and on CUDA: native ones or LibTorch's.

use std::{fmt, str::FromStr};

use tch::Device;

use crate::{dtype::Dtype, error::LoadError};

/// Kernels that compute on the CPU in [`Dtype::F32`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuKernels {
    /// [`Self::Native`] for models in f32, otherwise [`Self::LibTorch`].
    #[default]
    Auto,
    /// Native kernels for images, texts and greedy answers. Rarer tasks use them for products.
    Native,
    /// LibTorch's kernels.
    LibTorch,
}

impl CpuKernels {
    /// Returns whether a model uses native kernels.
    pub(crate) fn are_native(self, device: Device, dtype: Dtype) -> bool {
        self != Self::LibTorch && (device, dtype) == (Device::Cpu, Dtype::F32)
    }

    /// Checks that these kernels support a model in `dtype` on `device`.
    ///
    /// # Errors
    /// [`LoadError::CpuKernelsUnsupported`] if not.
    pub fn check(self, device: Device, dtype: Dtype) -> Result<(), LoadError> {
        match self {
            Self::Native if (device, dtype) != (Device::Cpu, Dtype::F32) => {
                Err(LoadError::CpuKernelsUnsupported { device: format!("{device:?}").to_lowercase(), dtype })
            }
            Self::Auto | Self::Native | Self::LibTorch => Ok(()),
        }
    }
}

impl FromStr for CpuKernels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "libtorch" => Ok(Self::LibTorch),
            _ => Err(format!("unknown kernels {text:?}, expected auto, native or libtorch")),
        }
    }
}

impl fmt::Display for CpuKernels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::LibTorch => "libtorch",
        })
    }
}

/// Kernels that compute residuals and norms, choose tokens, and round to FP8 on CUDA. LibTorch
/// computes the products in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CudaKernels {
    /// [`Self::Native`] for models in f16 and f32, otherwise [`Self::LibTorch`].
    #[default]
    Auto,
    /// Native kernels, compiled and compared with LibTorch's when the model is loaded. If one
    /// fails, the model logs a warning and uses LibTorch's kernels.
    Native,
    /// LibTorch's kernels.
    LibTorch,
}

impl CudaKernels {
    /// Returns whether a model uses native kernels, if they are available.
    pub(crate) fn are_native(self, device: Device, dtype: Dtype) -> bool {
        self != Self::LibTorch && Self::Native.check(device, dtype).is_ok()
    }

    /// Checks that these kernels support a model in `dtype` on `device`.
    ///
    /// # Errors
    /// [`LoadError::CudaKernelsUnsupported`] if not.
    pub fn check(self, device: Device, dtype: Dtype) -> Result<(), LoadError> {
        match (self, device, dtype) {
            (Self::Auto | Self::LibTorch, ..) | (Self::Native, Device::Cuda(_), Dtype::F16 | Dtype::F32) => {
                Ok(())
            }
            (Self::Native, ..) => {
                Err(LoadError::CudaKernelsUnsupported { device: format!("{device:?}").to_lowercase(), dtype })
            }
        }
    }
}

impl FromStr for CudaKernels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "libtorch" => Ok(Self::LibTorch),
            _ => Err(format!("unknown kernels {text:?}, expected auto, native or libtorch")),
        }
    }
}

impl fmt::Display for CudaKernels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::LibTorch => "libtorch",
        })
    }
}

/// Form of GELU in the feed-forward blocks on CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CudaGelu {
    /// The exact form, with erf, in a separate kernel.
    #[default]
    Exact,
    /// The approximation with tanh, where the product before it is written. It changes results
    /// slightly, see `docs/decisions/fused-kernels.md`.
    Tanh,
}

impl CudaGelu {
    /// Checks that models on `device` support this form.
    ///
    /// # Errors
    /// [`LoadError::CudaGeluUnsupported`] if not.
    pub fn check(self, device: Device) -> Result<(), LoadError> {
        match (self, device) {
            (Self::Exact, _) | (Self::Tanh, Device::Cuda(_)) => Ok(()),
            (Self::Tanh, _) => {
                Err(LoadError::CudaGeluUnsupported { device: format!("{device:?}").to_lowercase() })
            }
        }
    }
}

impl FromStr for CudaGelu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "exact" => Ok(Self::Exact),
            "tanh" => Ok(Self::Tanh),
            _ => Err(format!("unknown form of GELU {text:?}, expected exact or tanh")),
        }
    }
}

impl fmt::Display for CudaGelu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Exact => "exact",
            Self::Tanh => "tanh",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_cpu_kernels_apply_by_device_and_dtype() {
        for (kernels, expected) in
            [(CpuKernels::Auto, true), (CpuKernels::Native, true), (CpuKernels::LibTorch, false)]
        {
            assert_eq!(kernels.are_native(Device::Cpu, Dtype::F32), expected, "{kernels}");
        }
        for (device, dtype) in [(Device::Cpu, Dtype::F16), (Device::Cuda(0), Dtype::F32)] {
            assert!(!CpuKernels::Native.are_native(device, dtype));
            assert!(CpuKernels::Native.check(device, dtype).is_err());
            assert!(CpuKernels::Auto.check(device, dtype).is_ok());
        }
    }

    #[test]
    fn kernel_choice_parses_from_its_display_form() {
        for kernels in [CpuKernels::Auto, CpuKernels::Native, CpuKernels::LibTorch] {
            assert_eq!(kernels.to_string().parse(), Ok(kernels));
        }
        assert!("cuda".parse::<CpuKernels>().unwrap_err().contains("auto, native or libtorch"));
        for kernels in [CudaKernels::Auto, CudaKernels::Native, CudaKernels::LibTorch] {
            assert_eq!(kernels.to_string().parse(), Ok(kernels));
        }
        assert!("cuda".parse::<CudaKernels>().unwrap_err().contains("auto, native or libtorch"));
    }

    #[test]
    fn native_cuda_kernels_support_f16_and_f32() {
        let native =
            |device, dtype| CudaKernels::Native.check(device, dtype).map_err(|error| error.to_string());
        assert_eq!(native(Device::Cuda(1), Dtype::F16), Ok(()));
        assert_eq!(native(Device::Cuda(0), Dtype::F32), Ok(()));
        assert_eq!(
            native(Device::Cpu, Dtype::F32).unwrap_err(),
            "cuda_kernels native is not available: model in f32 on cpu, expected f16 or f32 on cuda"
        );
        assert!(
            native(Device::Cuda(0), Dtype::Bf16).unwrap_err().contains("model in bf16 on cuda(0), expected")
        );
        for kernels in [CudaKernels::Auto, CudaKernels::LibTorch] {
            assert!(kernels.check(Device::Cpu, Dtype::Bf16).is_ok());
        }
        let auto = |device, dtype| CudaKernels::Auto.are_native(device, dtype);
        assert!(auto(Device::Cuda(0), Dtype::F16) && auto(Device::Cuda(1), Dtype::F32));
        assert!(!auto(Device::Cuda(0), Dtype::Bf16) && !auto(Device::Cpu, Dtype::F32));
        assert!(!CudaKernels::LibTorch.are_native(Device::Cuda(0), Dtype::F16));
    }

    #[test]
    fn tanh_gelu_needs_cuda() {
        for gelu in [CudaGelu::Exact, CudaGelu::Tanh] {
            assert_eq!(gelu.to_string().parse(), Ok(gelu));
            assert!(gelu.check(Device::Cuda(0)).is_ok());
        }
        assert!("none".parse::<CudaGelu>().unwrap_err().contains("exact or tanh"));
        assert!(CudaGelu::Exact.check(Device::Cpu).is_ok());
        assert_eq!(
            CudaGelu::Tanh.check(Device::Cpu).unwrap_err().to_string(),
            "cuda_gelu tanh is not available: model on cpu, expected cuda"
        );
    }
}
