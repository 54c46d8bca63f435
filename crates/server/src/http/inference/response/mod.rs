//! Responses: item results as JSON, produced while the client reads it, and as server-sent events.

pub mod accept; // the Accept header
pub mod sse; // server-sent events
pub mod score_responses; // the JSON of matches and embeddings
pub mod ask_response; // the JSON of answers and captions
pub mod json_body; // the body of a JSON response
pub mod json_writer; // writes a response piece by piece
pub mod item_error; // the JSON of failed items
