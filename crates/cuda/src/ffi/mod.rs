//! Calls of foreign functions. No other module of the crate has `unsafe` code.
//!
//! - [`driver`] and [`nvrtc`] call the NVIDIA driver and its compiler through cudarc.
//! - [`libtorch`] calls `stream.cpp` and `memory.cpp`, which call LibTorch.
//! - [`loader`] opens the shared library that contains `stream.cpp` and `memory.cpp`.
#![expect(unsafe_code, reason = "calls C functions")]

pub(crate) mod driver;
pub(crate) mod nvrtc;
pub(crate) mod libtorch;
mod loader;
