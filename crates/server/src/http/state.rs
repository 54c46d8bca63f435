//! The state that all HTTP routes share.

use crate::{
    auth::Authenticator,
    grpc::handler::RequestHandler,
    lifecycle::{admin::Administration, health::Health},
    request::memory_budget::MemoryBudget,
    telemetry::tracing::Tracing,
};

/// The state of the HTTP adapter.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// Handles inference requests.
    pub handler: RequestHandler,
    /// Authenticates clients.
    pub authenticator: Authenticator,
    /// Loads and unloads models for administrators.
    pub administration: Administration,
    /// The memory budget of request bodies, shared with gRPC.
    pub budget: MemoryBudget,
    /// The export of traces.
    pub tracing: Tracing,
    /// The health of the server and its models.
    pub health: Health,
    /// The maximum number of generated tokens of an answer or a caption.
    pub max_new_tokens: u32,
}
