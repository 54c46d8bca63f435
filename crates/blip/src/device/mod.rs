//! Device and kernel selection, transfers between host and device, stage timing, and errors.

pub(crate) mod kernel_backend;
pub(crate) mod selection;
pub(crate) mod stage_timer;
pub(crate) mod torch_panics;
pub(crate) mod transfer;
