//! What the scheduler does, shown on paused time with engines that a test drives step by step.

mod first_steps;
mod puppet;
