//! CUDA functions of LibTorch that tch does not expose, and fused CUDA kernels.
//!
//! A batch uses the crate in this order:
//!
//! 1. A [`CopyStream`] copies pixels from a [`PageLockedBuffer`] to the device while the current
//!    stream computes.
//! 2. [`Event`]s mark the end of each stage and measure its time on the device.
//! 3. A [`Graph`] launches a captured sequence of kernels with one call.
//! 4. [`CudnnAttention`] computes attention with cuDNN, where its shapes are fixed.
//! 5. [`TokenRanges`] let flash attention read keys and values where they are.
//! 6. [`CudaStreams::linear_gelu`] computes a product and the GELU of its result together.
//! 7. [`AddNorm`] adds a residual and normalises the sum in one kernel.
//! 8. [`Fp8Kernels`] round the inputs of products to FP8, with or without GELU.
//! 9. [`ChoiceKernel`] finds the best token of each row in one kernel.
//!
//! [`read_device_memory`] reports the memory of LibTorch's allocator at any time.
//!
//! The crate links to no CUDA library. It opens a library of C functions for LibTorch, the NVIDIA
//! driver and NVRTC when they are first needed. A program with this crate therefore also runs on
//! machines without CUDA.
//!
//! Modules are listed from top to bottom. Each uses only modules below it.

mod choice;
mod norm;
mod fp8;
mod attention;
mod random;
mod storage;
mod linear;
mod page_locked;
mod memory;
mod graph;
mod event;
mod stream;
mod ffi;
mod error;

pub use attention::{
    cudnn::CudnnAttention,
    token_range::TokenRange,
    token_ranges::{RangeAttention, TokenRanges},
};
pub use choice::ChoiceKernel;
pub use error::CudaError;
pub use event::Event;
pub use fp8::{Fp8Kernels, MAX_FP8, round_to_fp8, rounding_error};
pub use graph::{CaptureStream, Graph};
pub use memory::{DeviceMemory, read_device_memory};
pub use norm::{AddNorm, NormKernels, NormShape, ROWS_PER_BLOCK};
pub use page_locked::PageLockedBuffer;
pub use storage::Storage;
pub use stream::{CopyStream, CudaStreams};
