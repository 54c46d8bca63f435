//! Behaviour of the scheduler on paused time, with engines that a test drives step by step.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test helpers fail by panicking too"
)]

mod deadlines;
mod failures;
mod basics;
mod metrics;
mod order;
mod fake_engine;
