//! The route table.

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    response::Redirect,
    routing::{any_service, get, post, post_service},
};

use crate::{
    config::sections::http::{CorsOrigin, HttpSettings},
    http::{
        adapters::{
            clouds::{self, RouteAliases, resolve_alias},
            hugging_face,
            open_inference::{infer, metadata, predict},
            openai,
            routing_error::{method_not_allowed, unknown_route},
        },
        allowed_hosts::{HostPolicy, check_host},
        cors::{check_origin, cors},
        docs::{self, errors_page, openapi},
        grpc_web::{check_media_type, grpc_web},
        inference::{decoded_body::Endpoint, handlers::handler},
        models, page,
        state::HttpServer,
    },
    telemetry::{Protocol, TelemetryLayer, metrics::count_requests},
};

/// Returns all routes. They expect a [`tonic::transport::server::TcpConnectInfo`] in the extensions
/// of a request.
pub fn router(server: HttpServer, settings: &HttpSettings) -> Router {
    let telemetry = TelemetryLayer::new(Protocol::Http, server.tracing.clone());
    let grpc_web = post_service(grpc_web(&server)).layer(from_fn(check_media_type));
    let server = Arc::new(server);
    let router = Router::new()
        .route("/", get(page::index).post(hugging_face::handlers::run))
        .route("/page/{file}", get(page::file_of_page))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(docs::index))
        .route("/docs/errors", get(errors_page::page))
        .route("/docs/{*file}", get(docs::file))
        .route(openapi::PATH, get(openapi::document))
        .route("/v1/ask", handler(Endpoint::Ask))
        .route("/v1/caption", handler(Endpoint::Caption))
        .route("/v1/match", handler(Endpoint::Match))
        .route("/v1/embed", handler(Endpoint::Embed))
        .route("/v1/models", get(models::list).post(models::load))
        .route(
            "/v1/models/{name}",
            any_service(
                get(models::get)
                    .delete(models::unload)
                    .post(predict::predict)
                    .layer(from_fn(predict::check_method))
                    .with_state(Arc::clone(&server)),
            ),
        )
        .route("/v1/chat/completions", post(openai::handlers::chat))
        .route("/v1/embeddings", post(openai::handlers::embeddings))
        .route("/models/{name}", post(hugging_face::handlers::run_model))
        .route("/hf/{task}", post(hugging_face::handlers::run_named))
        .route("/ping", get(metadata::ready))
        .route(clouds::HEALTH, get(metadata::ready))
        .route(clouds::INVOCATIONS, post(clouds::invoke))
        .route("/v2", get(metadata::server))
        .route("/v2/health/live", get(metadata::live))
        .route("/v2/health/ready", get(metadata::ready))
        .route("/v2/repository/index", post(metadata::repository_index))
        .route("/v2/models/{name}", get(metadata::model))
        .route("/v2/models/{name}/ready", get(metadata::model_ready))
        .route("/v2/models/{name}/infer", post(infer::infer))
        .route("/v2/models/{name}/versions/{version}", get(metadata::model_version))
        .route("/v2/models/{name}/versions/{version}/ready", get(metadata::model_version_ready))
        .route("/v2/models/{name}/versions/{version}/infer", post(infer::infer_version))
        .route("/blip.v1.BlipService/{method}", grpc_web)
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(server);
    let origins: Arc<[CorsOrigin]> = settings.http_cors_origins.clone().into();
    let router = router.layer(from_fn(count_requests));
    let router =
        router.layer(from_fn_with_state(origins, check_origin)).layer(cors(&settings.http_cors_origins));
    let hosts = HostPolicy::new(&settings.allowed_hosts, settings.http_listen);
    let router = router.layer(from_fn_with_state(hosts, check_host)).layer(telemetry);
    match RouteAliases::of(settings) {
        None => router,
        Some(aliases) => {
            let resolve = from_fn_with_state(Arc::new(aliases), resolve_alias);
            Router::new().fallback_service(router).layer(resolve)
        }
    }
}
