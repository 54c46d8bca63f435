//! Products of numbers that are rounded to bf16 or int8.
//!
//! Inputs are cut into tiles of 16 rows, weights into panels of 32 columns, both in lines of 64
//! bytes. AMX multiplies a tile by half of a panel's lines with one instruction. Processors without
//! AMX use the AVX-512 instructions of the format on the same layout. For int8 there is AVX2, too,
//! with other lines of inputs.

pub(crate) mod rounded_rows;
pub(crate) mod kernel;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16_vectors;
#[cfg(not(target_arch = "x86_64"))]
mod fallback;
pub(crate) mod quantization;
pub(crate) mod layout;
