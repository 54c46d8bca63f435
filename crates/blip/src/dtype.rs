//! Number formats of a model: weights, activations and products.

use std::{fmt, str::FromStr};

use cpu_kernels::NumberFormat;
use tch::{Device, Kind};

/// Number format of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point with five exponent bits.
    F16,
    /// 16-bit floating point with eight exponent bits.
    Bf16,
    /// 8-bit integers for weights and the inputs of products, f32 for the rest. Only on the CPU.
    Int8,
}

impl Dtype {
    /// Returns the format that `auto` selects: half precision on CUDA, single precision on the CPU.
    pub fn auto(device: Device) -> Self {
        if device.is_cuda() { Self::F16 } else { Self::F32 }
    }

    /// Returns LibTorch's name of the format of tensors.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 | Self::Int8 => Kind::Float,
            Self::F16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("unknown dtype {text:?}, expected f32, f16, bf16 or int8")),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// Number format of a part of a model, either the image encoder or the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartDtype {
    /// The [`Dtype`] of the model.
    #[default]
    AsModel,
    /// Weights and the inputs of products in bf16, on the CPU. Sums, norms and softmax stay in f32.
    /// Few answers change.
    Bf16,
    /// Weights and the inputs of products in 8-bit integers, on the CPU. Sums, norms and softmax
    /// stay in f32. Some answers change.
    Int8,
    /// Weights and the inputs of products in float8_e4m3, for images on CUDA. The rest stays in
    /// f16. Some answers change.
    Fp8,
}

impl PartDtype {
    /// Returns the format of the native kernels of the CPU. They have no FP8.
    pub(crate) fn number_format(self) -> NumberFormat {
        match self {
            Self::AsModel | Self::Fp8 => NumberFormat::F32,
            Self::Bf16 => NumberFormat::Bf16,
            Self::Int8 => NumberFormat::Int8,
        }
    }
}

impl FromStr for PartDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::AsModel),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            "fp8" => Ok(Self::Fp8),
            _ => Err(format!("unknown dtype {text:?}, expected auto, bf16, int8 or fp8")),
        }
    }
}

impl fmt::Display for PartDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AsModel => "auto",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Fp8 => "fp8",
        })
    }
}
