//! Rounding to float8_e4m3 (FP8), which tensor cores multiply twice as fast as f16.
//!
//! LibTorch needs two kernels to round, and one more for GELU. `docs/decisions/fp8-images.md`
//! explains the number format and its scales.

mod self_check;
mod kernels;
mod rounding;

pub use kernels::Fp8Kernels;
pub use rounding::{MAX_FP8, round_to_fp8, rounding_error};
