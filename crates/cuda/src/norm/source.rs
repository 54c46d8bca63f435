//! The source of the kernels, and the values with which it is compiled.

use tch::Kind;

use crate::{error::CudaError, ffi::nvrtc};

/// `storage.cuh` and `add_norm.cu` in one text, since NVRTC has no folder for includes.
const SOURCE: &str = concat!(include_str!("storage.cuh"), include_str!("add_norm.cu"));

/// Rows of a block of threads. Each warp computes one row.
pub const ROWS_PER_BLOCK: u32 = 4;

/// The largest width of a row that fits into the registers of a warp.
const MAX_WIDTH: i64 = 2048;

/// Bytes that a thread reads or writes at once.
pub(crate) const VECTOR_BYTES: i64 = 16;

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
            other => Err(CudaError::NumberFormat(other)),
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

/// The parameters for which the kernels are compiled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormShape {
    width: i64,
    eps: f64,
    storage: Storage,
}

impl NormShape {
    /// Creates a shape with rows of `width` numbers. The kernels add `eps` to the variance.
    ///
    /// # Errors
    /// [`CudaError::RowWidth`] if a row is not a multiple of 16 bytes or does not fit registers.
    pub fn new(width: i64, eps: f64, storage: Storage) -> Result<Self, CudaError> {
        let multiple = VECTOR_BYTES / storage.kind().elt_size_in_bytes() as i64;
        match (1..=MAX_WIDTH).contains(&width) && width % multiple == 0 {
            true => Ok(Self { width, eps, storage }),
            false => Err(CudaError::RowWidth { width, multiple, max: MAX_WIDTH }),
        }
    }

    /// Returns the numbers in a row.
    pub fn width(self) -> i64 {
        self.width
    }

    /// Returns the number that the kernels add to the variance.
    pub fn eps(self) -> f64 {
        self.eps
    }

    /// Returns the number format.
    pub fn storage(self) -> Storage {
        self.storage
    }

    /// Compiles the kernels to a cubin for a real architecture, such as `sm_90`, without a GPU.
    ///
    /// # Errors
    /// [`CudaError::NvrtcMissing`], or [`CudaError::Nvrtc`] with the log of NVRTC.
    pub fn compile(self, architecture: &str) -> Result<Vec<u8>, CudaError> {
        nvrtc::compile(c"add_norm.cu", SOURCE, architecture, &self.definitions())
    }

    /// Returns the macros of the source as `-D` options of a compiler.
    pub fn definitions(self) -> [String; 4] {
        [
            format!("-DWIDTH={}", self.width),
            // The shortest decimal text that reads back as the same f32.
            format!("-DEPS={:e}f", self.eps as f32),
            format!("-DSTORAGE={:?}", self.storage),
            format!("-DROWS_PER_BLOCK={ROWS_PER_BLOCK}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_needs_whole_vectors_that_fit_registers() {
        let width = |width, storage| NormShape::new(width, 1e-5, storage).map(NormShape::width).ok();
        assert_eq!(width(768, Storage::Half), Some(768));
        assert_eq!(width(36, Storage::Float), Some(36));
        assert_eq!(width(2048, Storage::Float), Some(2048));
        for (invalid, storage) in [
            (36, Storage::Half),
            (770, Storage::Float),
            (2056, Storage::Half),
            (0, Storage::Half),
            (-8, Storage::Half),
        ] {
            assert_eq!(width(invalid, storage), None, "{invalid} {storage:?}");
        }
        let message = NormShape::new(36, 1e-5, Storage::Half).unwrap_err().to_string();
        assert_eq!(message, "unsupported row width: 36, expected a multiple of 8 up to 2048");
    }

    #[test]
    fn storage_supports_half_and_float_only() {
        for storage in [Storage::Half, Storage::Float] {
            assert_eq!(Storage::of(storage.kind()).unwrap(), storage);
        }
        let message = Storage::of(Kind::BFloat16).unwrap_err().to_string();
        assert_eq!(message, "unsupported number format: BFloat16, expected Half or Float");
    }

    #[test]
    fn definitions_are_valid_c_literals() {
        let shape = NormShape::new(768, 1e-12, Storage::Half).unwrap();
        assert_eq!(
            shape.definitions(),
            ["-DWIDTH=768", "-DEPS=1e-12f", "-DSTORAGE=Half", "-DROWS_PER_BLOCK=4"]
        );
        let shape = NormShape::new(64, 1.0, Storage::Float).unwrap();
        assert_eq!(shape.definitions()[1], "-DEPS=1e0f");
    }
}
