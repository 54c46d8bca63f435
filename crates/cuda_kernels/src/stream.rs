//! The stream that kernels run on.

use std::ffi::c_void;

use cuda_stream::CudaStreams;

use crate::error::KernelError;

/// Tells the stream that a kernel is to run on.
#[derive(Debug)]
pub(crate) enum Stream {
    /// LibTorch's current one on a device.
    OfLibTorch { door: CudaStreams, device: usize },
    /// The default one.
    #[cfg(test)]
    Default,
}

impl Stream {
    pub(crate) fn of_libtorch(device: usize) -> Result<Self, KernelError> {
        let door = CudaStreams::open().map_err(|error| KernelError::Stream(error.to_string()))?;
        Ok(Self::OfLibTorch { door, device })
    }

    pub(crate) fn current(&self) -> Result<*mut c_void, KernelError> {
        match self {
            Self::OfLibTorch { door, device } => door.current_stream(*device).map_err(KernelError::Stream),
            #[cfg(test)]
            Self::Default => Ok(std::ptr::null_mut()),
        }
    }
}
