//! The errors that a client can receive: one table, and what is built from it.

pub mod docs;
pub mod request_error;
pub mod table;
pub mod excerpt;

pub use request_error::{DOMAIN, RequestError};
pub use table::{ErrorReason, ErrorSpec, Scope, code_name};
