//! Residual and layer norm in one kernel, compiled for the device when a model loads.
//!
//! [`AddNorm`] adds a residual and normalises the sum in one pass over memory. LibTorch launches
//! two kernels for it. `docs/decisions/fused-kernels.md` explains the choice of kernels.

mod self_check;
mod add_norm;
mod tensor_check;
mod source;

pub use add_norm::{AddNorm, NormKernels};
pub use source::{NormShape, ROWS_PER_BLOCK};
