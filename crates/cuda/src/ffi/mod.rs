//! Calls of foreign functions. No other module of the crate has `unsafe` code.
//!
//! - [`driver`] and [`nvrtc`] call the NVIDIA driver and its compiler through cudarc.
//! - [`libtorch`] calls `stream.cpp`, `attention.cpp` and `memory.cpp`, which call LibTorch.
//! - [`bytes`] writes to the memory of a tensor.
//! - [`loader`] opens the shared library that contains the C++ files.
#![expect(unsafe_code, reason = "calls C functions")]

pub(crate) mod driver;
pub(crate) mod nvrtc;
pub(crate) mod libtorch;
pub(crate) mod bytes;
mod loader;
