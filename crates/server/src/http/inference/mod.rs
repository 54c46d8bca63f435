//! TODO server::http::inference.

pub mod ask_request;
pub mod ask_response;
pub mod form_schema;
pub mod handlers;
pub mod json_bounds;
pub mod multipart;
pub mod payload;
pub mod questions;
pub mod score_responses;
pub mod sse;
pub mod task_requests;
