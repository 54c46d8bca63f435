//! Decodes and scales images, in worker processes or on the threads of the pool.
//!
//! Each thread of the pool owns an [`image_decoder`]. It decodes on the thread, or has its worker
//! process decode: `process_decoder` is the server's side, [`worker_main`] the other one.

pub mod image_decoder;
#[cfg(target_os = "linux")]
mod process_decoder;
#[cfg(target_os = "linux")]
pub mod worker_main;
#[cfg(target_os = "linux")]
mod observer;
#[cfg(target_os = "linux")]
mod worker_memory;
mod message;
mod outcome;

pub use message::WORKER_COMMAND;
pub use outcome::{DecodeFailure, DecodedImage};
