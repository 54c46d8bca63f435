//! The HTTP adapter: inference as JSON, forms and server-sent events, models, documentation, a page
//! for browsers, and gRPC-Web.
//!
//! [`router`] selects the handler. [`inference`] turns a body into a request for the
//! [`pipeline`](crate::pipeline) and its results into a response. Errors of a whole request become
//! [`problem`] documents.

pub mod router; // the route table
pub mod allowed_hosts; // the names of the server
pub mod cors; // cross-origin requests
pub mod docs; // OpenAPI, Swagger UI, the error page
pub mod page; // the page at /
pub mod grpc_web; // BlipService for browsers
pub mod models; // /v1/models
pub mod adapters; // the APIs of other servers
pub mod inference; // /v1/ask, /v1/caption, /v1/match, /v1/embed
pub mod media_type; // the media type of a body
pub mod json; // decoding of JSON bodies
pub mod json_bounds; // the limits on JSON values and field names
pub mod body; // request bodies within the memory budget
pub mod problem; // errors as problem documents
pub mod static_file; // embedded files
pub mod state; // the state that all handlers share

pub use state::HttpServer;
