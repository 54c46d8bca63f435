//! The parts of a request in protocol-independent form: inputs and tasks, their validation,
//! deadlines, and the memory that requests may occupy.
//!
//! A protocol adapter builds [`item::Input`]s and a [`task::Task`], as parts of a
//! `pipeline::request::InferenceRequest`. The dispatcher resolves the task, and
//! [`validate`](validate::validate) turns the inputs into [`item::ValidatedInput`]s.

pub mod validate;
pub mod task;
pub(crate) mod image_text; // an image as a text
pub mod item;
pub mod generation;
pub mod field_path;
pub mod deadline;
pub mod until_error;
pub(crate) mod upload_timer;
pub mod memory_budget;
pub mod whole_number; // whole numbers in JSON
