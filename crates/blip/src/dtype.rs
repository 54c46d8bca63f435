//! Number formats of a model: weights, activations and products.

use std::{fmt, str::FromStr};

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
}

impl Dtype {
    /// Returns the format that `auto` selects: half precision on CUDA, single precision on the CPU.
    pub fn auto(device: Device) -> Self {
        if device.is_cuda() { Self::F16 } else { Self::F32 }
    }

    /// Returns LibTorch's name of the format.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
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
            _ => Err(format!("unknown dtype {text:?}, expected f32, f16 or bf16")),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// Number format of the vision encoder's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VisionDtype {
    /// The [`Dtype`] of the model.
    #[default]
    AsModel,
    /// 8-bit integers, for a model in [`Dtype::F32`] on the CPU. Some answers change.
    Int8,
}

/// Number format of the weights of text encoder and text decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextDtype {
    /// The [`Dtype`] of the model.
    #[default]
    AsModel,
    /// Weights in [`Dtype::Bf16`], for a model in [`Dtype::F32`] on the CPU. Products and sums stay
    /// in f32. Few answers change.
    Bf16,
}

impl FromStr for TextDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::AsModel),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("unknown text dtype {text:?}, expected auto or bf16")),
        }
    }
}

impl fmt::Display for TextDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AsModel => "auto",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for VisionDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::AsModel),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("unknown vision dtype {text:?}, expected auto or int8")),
        }
    }
}

impl fmt::Display for VisionDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AsModel => "auto",
            Self::Int8 => "int8",
        })
    }
}
