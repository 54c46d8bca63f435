//! Access to LibTorch's streams, and streams for copies.

use std::ffi::c_void;

use crate::{
    error::CudaError,
    ffi::libtorch::{Library, RawStream, StreamFunctions},
};

/// A handle to the stream functions of LibTorch's CUDA library.
#[derive(Debug, Clone, Copy)]
pub struct CudaStreams {
    pub(crate) functions: &'static StreamFunctions,
}

impl CudaStreams {
    /// Opens the embedded library. LibTorch's CUDA library must be open already.
    ///
    /// # Errors
    /// [`CudaError::NotBuilt`] or [`CudaError::Load`].
    pub fn open() -> Result<Self, CudaError> {
        let functions = Library::open()?.streams()?;
        Ok(Self { functions })
    }

    /// Returns the `cudaStream_t` that LibTorch uses for this thread on `device`.
    ///
    /// The pointer is null for the default stream.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn current_stream(self, device: usize) -> Result<*mut c_void, CudaError> {
        self.functions.current_stream(device)
    }

    /// Waits until `device` has done the work of this thread's current stream.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`], also for a failure of earlier work.
    pub fn synchronize(self, device: usize) -> Result<(), CudaError> {
        self.functions.synchronize(device)
    }

    /// Makes another stream than the default one current in this thread on `device`, for the rest
    /// of its life. The work of several threads can then overlap.
    ///
    /// A thread that has such a stream keeps it. The streams are of LibTorch's pool.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn use_engine_stream(self, device: usize) -> Result<(), CudaError> {
        self.functions.use_engine_stream(device)
    }

    /// Takes a stream for copies on `device` from LibTorch's pool.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`].
    pub fn copy_stream(self, device: usize) -> Result<CopyStream, CudaError> {
        self.functions.copy_stream(device).map(CopyStream)
    }
}

/// A stream whose copies overlap with computation on the current stream.
#[derive(Debug)]
pub struct CopyStream(RawStream);

impl CopyStream {
    /// Runs `work` with this stream as the current stream of the thread.
    ///
    /// The stream and the previous current stream do not wait for each other.
    /// The previous stream is current again afterwards, even if `work` panics.
    ///
    /// # Errors
    /// [`CudaError::LibTorch`] if LibTorch cannot change the current stream.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, CudaError> {
        self.0.run(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_without_libtorch_cuda_fails() {
        let error = CudaStreams::open().unwrap_err();
        assert!(matches!(error, CudaError::NotBuilt | CudaError::Load(_)), "{error}");
    }
}
