//! Counts HTTP requests as they end, by route and status.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::call::Call;

/// As other servers write the status of a request whose client left before there was one.
const LEFT: &str = "499";

/// Counts the request, and that it is running until its response is out.
pub async fn observed(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let mut call = Call::begin("http", route, LEFT);
    let response = next.run(request).await;
    call.see(response.status().as_str().to_owned());
    response.map(|body| Body::new(ObservedBody { body, _call: call }))
}

/// A response body, up to its end.
#[derive(Debug)]
struct ObservedBody {
    body: Body,
    _call: Call,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
