//! TODO server::http::inference.

pub mod form_schema;
pub mod handlers;
pub mod multipart;
pub mod sse;
pub mod score_responses;
pub mod ask_response;
pub mod task_requests;
pub mod ask_request;
pub mod json_bounds;
pub mod payload;
pub mod questions;
