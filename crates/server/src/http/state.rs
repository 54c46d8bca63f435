use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{from_fn, from_fn_with_state},
    response::Redirect,
    routing::{get, post, post_service},
};

use crate::{
    auth::Authenticator,
    config::sections::http::{CorsOrigin, HttpSettings},
    error::{ErrorReason, RequestError},
    grpc::handler::RequestHandler,
    http::{
        cors::{cors, only_named},
        docs::{self, errors_page, openapi},
        grpc_web::{grpc_web, only_grpc},
        inference::handlers,
        models,
    },
    lifecycle::admin::Administration,
    request::memory_budget::MemoryBudget,
    telemetry::{Protocol, TelemetryLayer, metrics::count_requests, tracing::Tracing},
};

/// What HTTP requests are answered with.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// Answers.
    pub service: RequestHandler,
    /// Knows who may call.
    pub authenticator: Authenticator,
    /// The administrators' way.
    pub administration: Administration,
    /// Room for request bodies, shared with gRPC.
    pub room: MemoryBudget,
    /// Where traces go.
    pub tracing: Tracing,
}
