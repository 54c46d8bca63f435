//! The layer that tells a connection of its requests.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::listener::connection::ConnectionInfo;

/// Creates [`MarkedService`]s.
#[derive(Clone, Copy, Debug)]
pub struct RequestMarkLayer;

impl<S> Layer<S> for RequestMarkLayer {
    type Service = MarkedService<S>;

    fn layer(&self, inner: S) -> MarkedService<S> {
        MarkedService { inner }
    }
}

/// A service whose requests mark their connections as used.
///
/// It expects the [`ConnectionInfo`] in the extensions of each request, and adds the
/// [`TcpConnectInfo`](tonic::transport::server::TcpConnectInfo).
#[derive(Clone, Debug)]
pub struct MarkedService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for MarkedService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(info) = request.extensions().get::<ConnectionInfo>() {
            info.mark_request();
            let tcp = info.tcp().clone();
            request.extensions_mut().insert(tcp);
        }
        self.inner.call(request)
    }
}
