//! The tables of the state machine.

pub(crate) mod bisection;
pub(crate) mod engine_slot;
pub(crate) mod image_index;
pub(crate) mod memory_limit;
pub(crate) mod pending_job;
