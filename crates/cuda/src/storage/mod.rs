//! The number formats of tensors that the fused kernels read and write.

use tch::Kind;

use crate::error::CudaError;

/// The part of every kernel's source that reads and writes numbers. NVRTC has no folder for
/// includes.
pub(crate) const STORAGE_SOURCE: &str = concat!(include_str!("conversions.cuh"), include_str!("storage.cuh"));

/// The number format of tensors in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 16-bit floating point with five exponent bits.
    Half,
    /// 32-bit floating point.
    Float,
}

impl Storage {
    /// Returns the format of tensors of `kind`.
    ///
    /// # Errors
    /// [`CudaError::NumberFormat`] if the kernels do not support it.
    pub fn of(kind: Kind) -> Result<Self, CudaError> {
        match kind {
            Kind::Half => Ok(Self::Half),
            Kind::Float => Ok(Self::Float),
            found => Err(CudaError::NumberFormat { found, expected: "Half or Float" }),
        }
    }

    /// Returns LibTorch's name of the format.
    pub fn kind(self) -> Kind {
        match self {
            Self::Half => Kind::Half,
            Self::Float => Kind::Float,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_supports_half_and_float_only() {
        for storage in [Storage::Half, Storage::Float] {
            assert_eq!(Storage::of(storage.kind()).unwrap(), storage);
        }
        let message = Storage::of(Kind::BFloat16).unwrap_err().to_string();
        assert_eq!(message, "unsupported number format: BFloat16, expected Half or Float");
    }
}
