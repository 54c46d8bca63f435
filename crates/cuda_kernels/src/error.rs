//! Why there is no kernel, or why it did not run.

use tch::{Kind, TchError};

use crate::source::MAX_WIDTH;

/// Why there is no kernel, or why it did not run.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Rows of a width that the kernels are not written for.
    #[error("rows of {width} numbers: expected a multiple of {multiple}, up to {MAX_WIDTH}")]
    Width {
        /// Numbers in a row.
        width: i64,
        /// Those that are read and written together.
        multiple: i64,
    },
    /// Numbers in a format that the kernels are not written for.
    #[error("numbers are {0:?}, expected Half or Float")]
    Kind(Kind),
    /// CUDA's compiler is not there.
    #[error("libnvrtc, CUDA's compiler, is not where libraries are looked for")]
    NoCompiler,
    /// CUDA's compiler refused.
    #[error("nvrtc: {0}")]
    Compiler(String),
    /// The NVIDIA driver is not there.
    #[error("libcuda, the NVIDIA driver, is not where libraries are looked for")]
    NoDriver,
    /// The driver refused; what it says next to it tells whether the device can go on.
    #[error("CUDA driver error: {0}")]
    Driver(String),
    /// LibTorch does not tell which stream its work goes to.
    #[error("libtorch's current stream is not known: {0}")]
    Stream(String),
    /// A tensor that the kernel was not compiled for.
    #[error("add_norm: {tensor} is {found}, expected {expected}")]
    Unfit {
        /// Which one.
        tensor: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        expected: String,
    },
    /// A kernel computes something else than LibTorch does.
    #[error("{kernel} disagrees with libtorch: {what}")]
    Disagrees {
        /// Its name in the source.
        kernel: &'static str,
        /// What differs, and how much.
        what: String,
    },
    /// LibTorch refused.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// For passes through a model, in which kernels stand among LibTorch's operators.
impl From<KernelError> for TchError {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Torch(error) => error,
            other => Self::Torch(other.to_string()),
        }
    }
}
