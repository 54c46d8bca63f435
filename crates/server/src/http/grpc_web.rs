//! gRPC-Web: `BlipService` on the HTTP listener, for pages in a browser.

use std::convert::Infallible;

use axum::{body::Body, middleware::Next};
use http::{Request, Response, Version};
use tonic_web::GrpcWebLayer;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::{
    error::RequestError,
    grpc::{deadline_layer::DeadlineLayer, guarded},
    http::{
        media_type::{media_type, refused},
        state::HttpServer,
    },
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
    let found = media_type(request.headers());
    let is_web = found.starts_with("application/grpc-web");
    let is_plain = found.starts_with("application/grpc") && request.version() == Version::HTTP_2;
    if !is_web && !is_plain {
        return Err(refused(&found, "application/grpc-web or application/grpc-web-text"));
    }
    Ok(next.run(request).await)
}
