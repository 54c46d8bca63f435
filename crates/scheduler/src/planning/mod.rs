//! Decisions as pure functions: which jobs are admitted, and which batch runs next.

pub(crate) mod policy;
pub(crate) mod admission;
pub(crate) mod deadline_fit;
pub(crate) mod batch_builder;
pub(crate) mod queue_room;
pub(crate) mod allowance;
