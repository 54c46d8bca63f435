//! Device and kernel selection, transfers between host and device, and stage timing.

pub(crate) mod kernel_backend;
pub(crate) mod selection;
pub(crate) mod stage_timer;
pub(crate) mod transfer;
