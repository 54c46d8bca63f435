//! The best token of each row of logits in one kernel, compiled for the device when a model loads.
//!
//! LibTorch launches some ten kernels for it, which read the logits several times.
//! `docs/decisions/fused-kernels.md` explains the choice of kernels.

mod self_check;
mod kernel;

pub use kernel::ChoiceKernel;
