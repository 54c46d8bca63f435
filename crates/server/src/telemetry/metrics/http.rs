//! Axum middleware that counts HTTP requests by route and status.

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

use crate::telemetry::metrics::call_record::CallRecord;

/// The status of a request whose client disconnected before the response, as nginx writes it.
const CANCELLED: &str = "499";

/// Counts a request. It is in flight until its response body ends.
pub async fn count_requests(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let mut call = CallRecord::begin("http", route, CANCELLED);
    let response = next.run(request).await;
    call.set_code(response.status().as_str().to_owned());
    response.map(|body| Body::new(CountedBody { body, _call: call }))
}

/// A response body. Its request is counted when the body is dropped.
#[derive(Debug)]
struct CountedBody {
    body: Body,
    _call: CallRecord,
}

impl HttpBody for CountedBody {
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
