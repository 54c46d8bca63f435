//! gRPC-Web: `BlipService` on the HTTP listener, for pages in a browser.

use std::convert::Infallible;

use axum::{body::Body, middleware::Next};
use http::{Request, Response, Version, header::CONTENT_TYPE};
use tonic_web::GrpcWebLayer;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::{
    error::{ErrorReason, RequestError},
    grpc::{deadline_layer::DeadlineLayer, guarded},
    http::state::HttpServer,
};

/// Returns `BlipService` with the authentication, memory budget and deadlines of the gRPC listener.
/// On an HTTP/2 connection it also accepts plain gRPC.
pub(crate) fn grpc_web(
    server: &HttpServer,
) -> impl Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let HttpServer { handler, authenticator, budget, .. } = server;
    let guarded = guarded(handler.clone(), authenticator, budget.clone());
    // The deadline layer is inside the translation, so that its errors are translated too.
    let with_deadline = DeadlineLayer { default_deadline: handler.default_deadline }.layer(guarded);
    GrpcWebLayer::new().layer(with_deadline)
}

/// Rejects requests of other media types with a problem document.
pub(crate) async fn check_media_type(
    request: Request<Body>,
    next: Next,
) -> Result<Response<Body>, RequestError> {
    let content_type =
        request.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let media_type = content_type.as_deref().unwrap_or("missing");
    let is_web = media_type.starts_with("application/grpc-web");
    let is_plain = media_type.starts_with("application/grpc") && request.version() == Version::HTTP_2;
    if !is_web && !is_plain {
        return Err(RequestError::new(ErrorReason::MediaTypeRefused)
            .field("content-type")
            .value(media_type)
            .limit("application/grpc-web or application/grpc-web-text"));
    }
    Ok(next.run(request).await)
}
