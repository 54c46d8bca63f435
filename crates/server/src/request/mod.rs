//! Requests in protocol-independent form: inputs and tasks, their validation, and their limits.

pub mod validate;
pub mod task;
pub mod item;
pub mod generation;
pub mod field_path;
pub mod deadline;
pub mod memory_budget;
