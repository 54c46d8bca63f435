//! What is served at which path.

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
        state::HttpServer,
    },
    lifecycle::admin::Administration,
    request::memory_budget::MemoryBudget,
    telemetry::{Protocol, TelemetryLayer, metrics::count_requests, tracing::Tracing},
};

/// All routes. They look for a [`tonic::transport::server::TcpConnectInfo`] among a request's extensions.
pub(crate) fn router(server: HttpServer, settings: &HttpSettings) -> Router {
    let telemetry = TelemetryLayer::new(Protocol::Http, server.tracing.clone());
    let grpc_web = post_service(grpc_web(&server)).layer(from_fn(only_grpc));
    let router = Router::new()
        .route("/", get(async || Redirect::temporary("/docs/")))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(docs::index))
        .route("/docs/errors", get(errors_page::page))
        .route("/docs/{*file}", get(docs::file))
        .route(openapi::PATH, get(openapi::document))
        .route("/v1/ask", post(handlers::ask))
        .route("/v1/caption", post(handlers::caption))
        .route("/v1/match", post(handlers::compare))
        .route("/v1/embed", post(handlers::embed))
        .route("/v1/models", get(models::list).post(models::load))
        .route("/v1/models/{name}", get(models::get).delete(models::unload))
        .route("/blip.v1.BlipService/{method}", grpc_web)
        .fallback(unknown)
        .method_not_allowed_fallback(refused)
        .with_state(Arc::new(server));
    let origins: Arc<[CorsOrigin]> = settings.http_cors_origins.clone().into();
    let router = router.layer(from_fn(count_requests));
    let router =
        router.layer(from_fn_with_state(origins, only_named)).layer(cors(&settings.http_cors_origins));
    router.layer(telemetry)
}

async fn unknown(request: Request) -> RequestError {
    RequestError::new(ErrorReason::RouteUnknown).value(request.uri().path())
}

async fn refused(request: Request) -> RequestError {
    RequestError::new(ErrorReason::MethodRefused).value(request.method().as_str())
}
