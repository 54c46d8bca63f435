//! CUDA kernels of our own, compiled for the device when a model is loaded.
//!
//! [`AddNorm`] adds a residual and takes the layer norm of the sum in one pass over memory, where LibTorch launches two
//! kernels. NVRTC, CUDA's compiler, and the driver are opened when a kernel is asked for: a program with this crate in it runs on
//! machines that have neither. Why these kernels and no others: `docs/decisions/fused-kernels.md`.

mod add_norm;
mod error;
mod fit;
mod foreign;
#[cfg(test)]
mod pretended;
mod self_check;
mod source;
mod stream;

pub use add_norm::{AddNorm, NormKernels};
pub use error::KernelError;
pub use foreign::compile;
pub use source::{NormShape, ROWS_PER_BLOCK, Storage};
