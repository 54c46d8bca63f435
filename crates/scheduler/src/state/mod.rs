//! The tables of the state machine: pending jobs, images and engines.

pub(crate) mod image_index;
pub(crate) mod co_batched;
pub(crate) mod engine_set;
pub(crate) mod engine_slot;
pub(crate) mod memory_limit;
pub(crate) mod bisection;
pub(crate) mod pending_job;
pub(crate) mod client_holdings;
