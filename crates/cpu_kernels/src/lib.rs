//! Products, norms and attention on the CPU, in f32 and, of linear layers, in 8-bit integers: on the one thread that calls them;
//! whoever has more cuts the rows.
//!
//! A library of tensors spends more on a small model's operators, each called and given memory of its own, than on their arithmetic.
//! These work on slices that the caller keeps. What they give of a row depends on that row alone, to the bit.
//!
//! Everything rests on one loop, `tile`: a few rows times a panel of columns, sums in registers. It is written once and
//! compiled for AVX-512, AVX2 and whatever else, of which `pulp` takes the best at hand; and once more for 8-bit integers, with
//! instructions (AVX-512 VNNI) that `pulp` does not have.
#![deny(unsafe_code)]

mod activation;
mod attention;
mod int8;
mod layer_norm;
mod linear;
mod microkernel;
mod packed_panels;

pub use activation::log_sum_exp;
pub use attention::{Heads, Rows, attend_one};
pub use int8::{Int8Linear, Int8Scratch};
pub use layer_norm::LayerNorm;
pub use linear::{After, Linear};
