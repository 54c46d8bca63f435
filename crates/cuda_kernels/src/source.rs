//! The kernels' source, and what it is compiled with.

use tch::Kind;

use crate::error::KernelError;

/// `storage.cuh` and `add_norm.cu`, one behind the other: NVRTC is given no folder to include from.
pub(crate) const SOURCE: &str = concat!(include_str!("storage.cuh"), include_str!("add_norm.cu"));

/// Rows that a block of threads works on, each by a warp.
pub const ROWS_PER_BLOCK: u32 = 4;

/// A row is in a warp's registers; up to this width they hold it.
pub(crate) const MAX_WIDTH: i64 = 2048;

/// Bytes that a thread reads and writes together.
pub(crate) const VECTOR_BYTES: i64 = 16;

/// How numbers lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 16-bit floating point, five exponent bits.
    Half,
    /// 32-bit floating point.
    Float,
}

impl Storage {
    /// That of tensors of a kind.
    ///
    /// # Errors
    /// [`KernelError::Kind`] if there are no kernels for it.
    pub fn of(kind: Kind) -> Result<Self, KernelError> {
        match kind {
            Kind::Half => Ok(Self::Half),
            Kind::Float => Ok(Self::Float),
            other => Err(KernelError::Kind(other)),
        }
    }

    /// LibTorch's name for it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Half => Kind::Half,
            Self::Float => Kind::Float,
        }
    }
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormShape {
    width: i64,
    eps: f64,
    storage: Storage,
}

impl NormShape {
    /// Rows of `width` numbers; `eps` is added to their variance.
    ///
    /// # Errors
    /// [`KernelError::Width`] if rows are not a whole number of 16 bytes, or more than registers hold.
    pub fn new(width: i64, eps: f64, storage: Storage) -> Result<Self, KernelError> {
        let multiple = VECTOR_BYTES / storage.kind().elt_size_in_bytes() as i64;
        match (1..=MAX_WIDTH).contains(&width) && width % multiple == 0 {
            true => Ok(Self { width, eps, storage }),
            false => Err(KernelError::Width { width, multiple }),
        }
    }

    /// Numbers in a row.
    pub fn width(self) -> i64 {
        self.width
    }

    /// What is added to the variance.
    pub fn eps(self) -> f64 {
        self.eps
    }

    /// How its numbers lie in memory.
    pub fn storage(self) -> Storage {
        self.storage
    }

    /// What the source leaves open, as a compiler's `-D` options.
    pub fn definitions(self) -> [String; 4] {
        [
            format!("-DWIDTH={}", self.width),
            // Its f32, written so that reading gives the same number.
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
    fn rows_are_whole_vectors_and_fit_into_registers() {
        let width = |width, storage| NormShape::new(width, 1e-5, storage).map(NormShape::width).ok();
        assert_eq!(width(768, Storage::Half), Some(768));
        assert_eq!(width(36, Storage::Float), Some(36));
        assert_eq!(width(2048, Storage::Float), Some(2048));
        for (unfit, storage) in [
            (36, Storage::Half),
            (770, Storage::Float),
            (2056, Storage::Half),
            (0, Storage::Half),
            (-8, Storage::Half),
        ] {
            assert_eq!(width(unfit, storage), None, "{unfit} {storage:?}");
        }
        let message = NormShape::new(36, 1e-5, Storage::Half).unwrap_err().to_string();
        assert_eq!(message, "rows of 36 numbers: expected a multiple of 8, up to 2048");
    }

    #[test]
    fn there_are_kernels_for_two_kinds() {
        for storage in [Storage::Half, Storage::Float] {
            assert_eq!(Storage::of(storage.kind()).unwrap(), storage);
        }
        let message = Storage::of(Kind::BFloat16).unwrap_err().to_string();
        assert_eq!(message, "numbers are BFloat16, expected Half or Float");
    }

    #[test]
    fn what_is_left_open_is_written_as_c_reads_it() {
        let shape = NormShape::new(768, 1e-12, Storage::Half).unwrap();
        assert_eq!(
            shape.definitions(),
            ["-DWIDTH=768", "-DEPS=1e-12f", "-DSTORAGE=Half", "-DROWS_PER_BLOCK=4"]
        );
        let shape = NormShape::new(64, 1.0, Storage::Float).unwrap();
        assert_eq!(shape.definitions()[1], "-DEPS=1e0f");
    }
}
