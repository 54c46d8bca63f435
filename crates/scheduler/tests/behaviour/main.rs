//! What the scheduler does, shown on paused time with engines that a test drives step by step.

mod deadlines;
mod failures;
mod first_steps;
mod metrics;
mod order;
mod puppet;
