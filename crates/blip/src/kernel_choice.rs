//! Whose kernels compute on the CPU.

use std::{fmt, str::FromStr};

use tch::Device;

use crate::{device::Dtype, error::LoadError};

/// Whose kernels compute on the CPU in [`Dtype::F32`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuKernels {
    /// This program's own for a small model ([`crate::VisionConfig::is_small`]), LibTorch's for others.
    #[default]
    Auto,
    /// This program's own, on one thread: for images and for plain answers.
    Own,
    /// LibTorch's.
    LibTorch,
}

impl CpuKernels {
    /// Whether a model is to have this program's own.
    pub(crate) fn are_own(self, is_small: bool, device: Device, dtype: Dtype) -> bool {
        let wanted = match self {
            Self::Auto => is_small,
            Self::Own => true,
            Self::LibTorch => false,
        };
        wanted && (device, dtype) == (Device::Cpu, Dtype::F32)
    }

    /// Whether a model in `dtype` on `device` can have them.
    ///
    /// # Errors
    /// [`LoadError::OwnKernelsElsewhere`] if not.
    pub fn check(self, device: Device, dtype: Dtype) -> Result<(), LoadError> {
        match self {
            Self::Own if (device, dtype) != (Device::Cpu, Dtype::F32) => {
                Err(LoadError::OwnKernelsElsewhere { device: format!("{device:?}").to_lowercase(), dtype })
            }
            Self::Auto | Self::Own | Self::LibTorch => Ok(()),
        }
    }
}

impl FromStr for CpuKernels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "own" => Ok(Self::Own),
            "libtorch" => Ok(Self::LibTorch),
            _ => Err(format!("unknown kernels {text:?}, expected auto, own or libtorch")),
        }
    }
}

impl fmt::Display for CpuKernels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Own => "own",
            Self::LibTorch => "libtorch",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_are_for_f32_on_the_cpu_and_by_default_for_small_models() {
        let own = |kernels: CpuKernels, is_small, device, dtype| kernels.are_own(is_small, device, dtype);
        assert!(own(CpuKernels::Auto, true, Device::Cpu, Dtype::F32));
        assert!(own(CpuKernels::Own, false, Device::Cpu, Dtype::F32));
        assert!(!own(CpuKernels::Auto, false, Device::Cpu, Dtype::F32));
        assert!(!own(CpuKernels::LibTorch, true, Device::Cpu, Dtype::F32));
        for (device, dtype) in [(Device::Cpu, Dtype::F16), (Device::Cuda(0), Dtype::F32)] {
            assert!(!own(CpuKernels::Auto, true, device, dtype));
            assert!(CpuKernels::Own.check(device, dtype).is_err());
            assert!(CpuKernels::Auto.check(device, dtype).is_ok());
        }
    }

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for kernels in [CpuKernels::Auto, CpuKernels::Own, CpuKernels::LibTorch] {
            assert_eq!(kernels.to_string().parse(), Ok(kernels));
        }
        assert!("cuda".parse::<CpuKernels>().unwrap_err().contains("auto, own or libtorch"));
    }
}
