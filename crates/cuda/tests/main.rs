//! The crate on a machine without a GPU, over a fake of LibTorch's CUDA library and of the driver.
//!
//! The tests cover which functions the crate calls in which order, how it reports their failures,
//! and what the kernels compute. They do not cover LibTorch's CUDA library, the driver or the
//! machine code.
#![expect(unsafe_code, reason = "calls the fake, which is compiled for these tests")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod choice;
mod fake_driver;
mod fp8;
mod linear;
mod memory;
mod norms;
mod streams;
