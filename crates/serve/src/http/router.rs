//! What is served at which path.

use std::sync::Arc;

use super::{
    ask,
    cors::{cors, only_named},
    docs, errors_page,
    grpc_web::{grpc_web, only_grpc},
    models, openapi,
};
use crate::{
    admin::Administration,
    ask::AskService,
    auth::Authenticator,
    errors::{Reason, Refusal},
    monitor::observed,
    settings::{CorsOrigin, HttpSettings},
    telemetry::{Protocol, TelemetryLayer, trace::Tracing},
    upload::Room,
};
use axum::{
    Router,
    extract::Request,
    middleware::{from_fn, from_fn_with_state},
    response::Redirect,
    routing::{get, post, post_service},
};

/// What HTTP requests are answered with.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// Answers.
    pub service: AskService,
    /// Knows who may call.
    pub authenticator: Authenticator,
    /// The administrators' way.
    pub administration: Administration,
    /// Room for request bodies, shared with gRPC.
    pub room: Room,
    /// Where traces go.
    pub tracing: Tracing,
}

/// All routes. They look for a [`tonic::transport::server::TcpConnectInfo`] among a request's extensions.
pub(super) fn router(server: HttpServer, settings: &HttpSettings) -> Router {
    let telemetry = TelemetryLayer::new(Protocol::Http, server.tracing.clone());
    let grpc_web = post_service(grpc_web(&server)).layer(from_fn(only_grpc));
    let router = Router::new()
        .route("/", get(async || Redirect::temporary("/docs/")))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(docs::index))
        .route("/docs/errors", get(errors_page::page))
        .route("/docs/{*file}", get(docs::file))
        .route(openapi::PATH, get(openapi::document))
        .route("/v1/ask", post(ask::ask))
        .route("/v1/caption", post(ask::caption))
        .route("/v1/match", post(ask::compare))
        .route("/v1/embed", post(ask::embed))
        .route("/v1/models", get(models::list).post(models::load))
        .route("/v1/models/{name}", get(models::get).delete(models::unload))
        .route("/blip.v1.BlipService/{method}", grpc_web)
        .fallback(unknown)
        .method_not_allowed_fallback(refused)
        .with_state(Arc::new(server));
    let origins: Arc<[CorsOrigin]> = settings.http_cors_origins.clone().into();
    let router = router.layer(from_fn(observed));
    let router =
        router.layer(from_fn_with_state(origins, only_named)).layer(cors(&settings.http_cors_origins));
    router.layer(telemetry)
}

async fn unknown(request: Request) -> Refusal {
    Refusal::new(Reason::RouteUnknown).value(request.uri().path())
}

async fn refused(request: Request) -> Refusal {
    Refusal::new(Reason::MethodRefused).value(request.method().as_str())
}
