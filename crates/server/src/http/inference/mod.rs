//! The inference routes: bodies in JSON and forms, and responses in JSON and server-sent events.
//!
//! [`handlers`] decode a body into a [`decoded_body`], dispatch it, and collect the
//! item results into one of the response types.

pub mod handlers; // from the headers of a request to its response
pub mod response; // JSON and server-sent events
pub mod form; // forms: decoding and description
pub mod task_requests; // the JSON of the other routes
pub mod ask_request; // the JSON of /v1/ask
pub mod question_json; // a question in JSON
pub mod image_json; // an image in JSON
pub mod decoded_body; // the contents of a body in any format
