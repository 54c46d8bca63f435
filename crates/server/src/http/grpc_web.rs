//! gRPC-Web: `BlipService` for pages in a browser, on the HTTP listener.

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

/// The gRPC methods, with the same authentication, budget and deadlines as on the gRPC listener. Plain gRPC is answered,
/// too, where the connection is HTTP/2.
pub(crate) fn grpc_web(
    server: &HttpServer,
) -> impl Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let HttpServer { handler, authenticator, budget, .. } = server;
    let guarded = guarded(handler.clone(), authenticator, budget.clone());
    // Inside the translation, so that what comes of a deadline is translated as well.
    let bounded = DeadlineLayer { default_deadline: handler.default_deadline }.layer(guarded);
    GrpcWebLayer::new().layer(bounded)
}

/// Tells whoever sends something else so, in words that he understands.
pub(crate) async fn only_grpc(request: Request<Body>, next: Next) -> Result<Response<Body>, RequestError> {
    let content_type =
        request.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let named = content_type.as_deref().unwrap_or("missing");
    let web = named.starts_with("application/grpc-web");
    let plain = named.starts_with("application/grpc") && request.version() == Version::HTTP_2;
    if !web && !plain {
        return Err(RequestError::new(ErrorReason::MediaTypeRefused)
            .field("content-type")
            .value(named)
            .limit("application/grpc-web or application/grpc-web-text"));
    }
    Ok(next.run(request).await)
}
