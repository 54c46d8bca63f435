//! The hub's protocol, against a server on loopback that speaks it, well and badly.
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
