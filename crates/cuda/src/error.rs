//! The error type of the crate.

use tch::{Kind, TchError};

/// A failure of LibTorch's CUDA library, the NVIDIA driver, NVRTC or a fused kernel.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// The build had no headers of LibTorch's CUDA library.
    #[error("cuda streams not available: program built without LibTorch's CUDA headers")]
    NotBuilt,
    /// The embedded library does not open, usually because LibTorch's CUDA library is not open.
    #[error("embedded cuda library not loaded: {0}")]
    Load(String),
    /// A call of LibTorch failed.
    #[error("libtorch call failed: {0}")]
    LibTorch(#[from] TchError),
    /// Data does not fit a buffer in page-locked memory.
    #[error("data does not fit page-locked buffer: {bytes} bytes at {offset}, buffer has {capacity}")]
    BufferTooSmall {
        /// Position of the data in the buffer.
        offset: usize,
        /// Length of the data.
        bytes: usize,
        /// Length of the buffer.
        capacity: usize,
    },
    /// The NVIDIA driver is missing.
    #[error("NVIDIA driver missing: libcuda not found on the library path")]
    DriverMissing,
    /// A call of the driver failed. The text of the driver says whether the device still works.
    #[error("CUDA driver error: {0}")]
    Driver(String),
    /// NVRTC, the CUDA compiler, is missing.
    #[error("CUDA compiler missing: libnvrtc not found on the library path")]
    NvrtcMissing,
    /// NVRTC rejected the source or its options.
    #[error("nvrtc failed: {0}")]
    Nvrtc(String),
    /// The kernels do not support rows of this width.
    #[error("unsupported row width: {width}, expected a multiple of {multiple} up to {max}")]
    RowWidth {
        /// Numbers in a row.
        width: i64,
        /// Numbers that a thread reads at once.
        multiple: i64,
        /// The largest supported width.
        max: i64,
    },
    /// The kernels do not support this number format.
    #[error("unsupported number format: {found:?}, expected {expected}")]
    NumberFormat {
        /// The format of the tensors.
        found: Kind,
        /// The formats that the kernels support.
        expected: &'static str,
    },
    /// A tensor differs from what the kernel was compiled for.
    #[error("{tensor} of {kernel} does not match: {found}, expected {expected}")]
    TensorMismatch {
        /// The name of the kernel.
        kernel: &'static str,
        /// The argument.
        tensor: &'static str,
        /// Its property.
        found: String,
        /// The property that the kernel needs.
        expected: String,
    },
    /// A kernel computes a different result than LibTorch.
    #[error("self-check of {kernel} failed: {difference}")]
    SelfCheck {
        /// The name of the kernel in its source.
        kernel: &'static str,
        /// What differs, and how much.
        difference: String,
    },
}

/// For model code, which calls this crate between LibTorch's operators.
impl From<CudaError> for TchError {
    fn from(error: CudaError) -> Self {
        match error {
            CudaError::LibTorch(error) => error,
            other => Self::Torch(other.to_string()),
        }
    }
}
