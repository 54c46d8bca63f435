//! The tower layer that authenticates gRPC calls.
//!
//! It runs before any byte of a request's body is read.

use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::{body::Body, server::NamedService, transport::server::TcpConnectInfo};
use tower_service::Service;

use crate::auth::{Authenticator, revocation::RevocableResponse, token_of};

/// A gRPC service that rejects unauthenticated calls.
///
/// It stores the [`crate::auth::client::Client`] in the extensions of each request.
#[derive(Clone, Debug)]
pub struct Authenticated<S> {
    inner: S,
    authenticator: Authenticator,
}

impl<S> Authenticated<S> {
    /// Wraps `inner` so that `authenticator` checks each call.
    pub fn new(inner: S, authenticator: Authenticator) -> Self {
        Self { inner, authenticator }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<RevocableResponse<S::Future>, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        match self.authenticator.authenticate(token_of(request.headers()), peer) {
            Ok(client) => {
                let revoked = client.revoked.clone();
                request.extensions_mut().insert(client);
                Either::Left(RevocableResponse::new(self.inner.call(request), revoked))
            }
            Err(error) => Either::Right(ready(Ok(error.to_status().into_http()))),
        }
    }
}
