//! Every error that a caller can meet: one table, and what is made of it.

pub mod docs;
pub mod request_error;
pub mod table;

pub use request_error::{DOMAIN, RequestError};
pub use table::{ErrorReason, ErrorSpec, Scope, code_name};
