//! The client against a test hub on loopback, which follows the protocol or violates it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; clippy knows test functions, not what they call"
)]

mod cache;
mod corruption;
mod errors;
mod server;
mod transfers;
