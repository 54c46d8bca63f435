//! Counts a response message towards the unread responses of its client until it is sent.
//!
//! The results of a call count while they are computed. `ModelInfer` collects them into one
//! message, which the connection holds until the client takes it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::Map};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use crate::fair_share::Share;

/// The memory of a response, which its handler puts into the extensions.
#[derive(Clone, Debug)]
pub(crate) struct UnreadResponse(pub(crate) Arc<Share>);

/// A gRPC service whose responses may have an [`UnreadResponse`].
#[derive(Clone, Debug)]
pub(crate) struct UnreadResponseService<S>(pub(crate) S);

impl<S: NamedService> NamedService for UnreadResponseService<S> {
    const NAME: &'static str = S::NAME;
}

type Returned = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for UnreadResponseService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Map<S::Future, fn(Returned) -> Returned>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let hold_all: fn(Returned) -> Returned = |response| response.map(hold);
        self.0.call(request).map(hold_all)
    }
}

/// Moves the memory of a response to its body.
fn hold(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<UnreadResponse>() {
        Some(UnreadResponse(share)) => response.map(|body| Body::new(HeldBody { body, _share: share })),
        None => response,
    }
}

/// A body with its memory, which returns when the body is dropped.
#[derive(Debug)]
struct HeldBody {
    body: Body,
    _share: Arc<Share>,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;
    use crate::{fair_share::Caller, request::memory_budget::tests::budget};

    #[test]
    fn memory_returns_with_the_end_of_the_body() {
        let budget = budget(9 << 20, 1 << 20);
        let caller = Caller::peer(None);
        let free = || {
            let shares = std::iter::from_fn(|| budget.reserve_response(caller, 1 << 10).ok());
            shares.collect::<Vec<_>>().len()
        };
        let whole = free();
        let share = budget.reserve_response(caller, 100 << 10).unwrap();
        let data = stream::pending::<Result<Frame<Bytes>, Status>>();
        let mut response = Response::new(Body::new(StreamBody::new(data)));
        response.extensions_mut().insert(UnreadResponse(Arc::new(share)));
        let (head, body) = hold(response).into_parts();
        // hyper drops the head when it has sent it.
        drop(head);
        assert_eq!(free(), whole - 100);
        drop(body);
        assert_eq!(free(), whole);
    }
}
