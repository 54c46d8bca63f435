//! OpenAI's API: `/v1/chat/completions` and `/v1/embeddings`.
//!
//! [`handlers`] decode a body into a request for the [`pipeline`](crate::pipeline), and write its
//! results in the layout of OpenAI's API. `/v1/models` has the fields of this API as well.

pub mod handlers; // from the headers of a request to its response
pub mod chat_stream; // a chat completion as server-sent events
pub mod chat_response; // the JSON of a chat completion
pub mod chat_request; // the JSON of a chat request
pub mod message; // a message with its parts
pub mod embeddings; // the JSON of embeddings
pub mod error; // errors in the shape of this API
