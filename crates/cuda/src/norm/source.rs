//! The source of the kernels, and the values with which it is compiled.

use tch::Kind;

use crate::{
    error::CudaError,
    ffi::nvrtc,
    storage::{STORAGE_SOURCE, Storage},
};

/// Rows of a block of threads. Each warp computes one row.
pub const ROWS_PER_BLOCK: u32 = 4;

/// The largest width of a row that fits into the registers of a warp.
const MAX_WIDTH: i64 = 2048;

/// Bytes that a thread reads or writes at once.
pub(crate) const VECTOR_BYTES: i64 = 16;

/// The parameters for which the kernels are compiled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormShape {
    width: i64,
    eps: f64,
    storage: Storage,
    has_fp8_norms: bool,
}

impl NormShape {
    /// Creates a shape with rows of `width` numbers. The kernels add `eps` to the variance.
    ///
    /// # Errors
    /// [`CudaError::RowWidth`] if a row is not a multiple of 16 bytes or does not fit registers.
    pub fn new(width: i64, eps: f64, storage: Storage) -> Result<Self, CudaError> {
        let multiple = VECTOR_BYTES / storage.kind().elt_size_in_bytes() as i64;
        match (1..=MAX_WIDTH).contains(&width) && width % multiple == 0 {
            true => Ok(Self { width, eps, storage, has_fp8_norms: false }),
            false => Err(CudaError::RowWidth { width, multiple, max: MAX_WIDTH }),
        }
    }

    /// Adds a kernel that returns norms in FP8. It needs compute capability 8.9.
    ///
    /// # Errors
    /// [`CudaError::NumberFormat`] if the rows are not in f16.
    pub fn with_fp8_norms(self) -> Result<Self, CudaError> {
        match self.storage {
            Storage::Half => Ok(Self { has_fp8_norms: true, ..self }),
            Storage::Float => Err(CudaError::NumberFormat { found: Kind::Float, expected: "Half" }),
        }
    }

    /// Returns whether a kernel returns norms in FP8.
    pub(crate) fn has_fp8_norms(self) -> bool {
        self.has_fp8_norms
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
        let source = [STORAGE_SOURCE, include_str!("add_norm.cu")].concat();
        nvrtc::compile(c"add_norm.cu", &source, architecture, &self.definitions())
    }

    /// Returns the macros of the source as `-D` options of a compiler.
    pub fn definitions(self) -> [String; 5] {
        [
            format!("-DWIDTH={}", self.width),
            // The shortest decimal text that reads back as the same f32.
            format!("-DEPS={:e}f", self.eps as f32),
            format!("-DSTORAGE={:?}", self.storage),
            format!("-DROWS_PER_BLOCK={ROWS_PER_BLOCK}"),
            format!("-DFP8_NORMS={}", i32::from(self.has_fp8_norms)),
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
    fn definitions_are_valid_c_literals() {
        let shape = NormShape::new(768, 1e-12, Storage::Half).unwrap();
        assert_eq!(
            shape.definitions(),
            ["-DWIDTH=768", "-DEPS=1e-12f", "-DSTORAGE=Half", "-DROWS_PER_BLOCK=4", "-DFP8_NORMS=0"]
        );
        assert_eq!(shape.with_fp8_norms().unwrap().definitions()[4], "-DFP8_NORMS=1");
        let shape = NormShape::new(64, 1.0, Storage::Float).unwrap();
        assert_eq!(shape.definitions()[1], "-DEPS=1e0f");
        assert!(shape.with_fp8_norms().is_err());
    }
}
