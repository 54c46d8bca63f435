//! Single-threaded CPU kernels in f32, bf16 and int8: linear layers, layer norm, attention.
//!
//! The kernels work on slices of the caller, one call on one thread. A caller with several threads
//! splits the rows, or the columns of a product of few rows. A row of the output depends only on
//! its row of the input, to the bit. It does not depend on the batch composition.
//!
//! A batch passes through a model as calls of [`CpuLinear`], [`Heads::attend`] or
//! [`attend_single_query`], and [`CpuLayerNorm`]. All products in f32 rest on one loop,
//! `microkernel`: it multiplies a few rows by a panel of columns, with the sums in registers.
//! `pulp` compiles the loop for AVX-512, AVX2 and the baseline, and selects one at run time.
//! Products in bf16 and int8 are in `tiles`, because `pulp` lacks their instructions.
//!
//! A tensor library spends more time on calls and allocations than on arithmetic when a model is
//! small. These kernels avoid both.
//!
//! Modules are listed from top to bottom; each uses only modules below it.
#![deny(unsafe_code)]

mod attention;
mod linear;
mod tiles;
mod epilogue;
mod layer_norm;
mod microkernel;
mod activation;
mod weight_lines;
mod bf16_numbers;
mod aligned_numbers;
mod vector_len;
mod prefetch;

pub use activation::log_sum_exp;
pub use aligned_numbers::AlignedNumbers;
pub use attention::{Heads, MatrixRows, attend_single_query};
pub use bf16_numbers::{from_bf16, to_bf16};
pub use epilogue::Epilogue;
pub use layer_norm::CpuLayerNorm;
pub use linear::{CpuLinear, layer_input::LayerInput, number_format::NumberFormat};
