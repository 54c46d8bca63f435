//! What the scheduler does, shown on paused time with engines that a test drives step by step.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

mod deadlines;
mod failures;
mod basics;
mod metrics;
mod order;
mod fake_engine;
