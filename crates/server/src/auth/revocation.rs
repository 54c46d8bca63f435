//! Ends the responses of a call whose API key is no longer valid.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

use crate::error::{ErrorReason, RequestError};

pin_project! {
    /// The future of a response that ends when the key is revoked.
    #[derive(Debug)]
    pub struct RevocableResponse<F> {
        #[pin]
        response: F,
        revoked: Option<CancellationToken>,
    }
}

impl<F> RevocableResponse<F> {
    /// `revoked` is cancelled when the key is revoked. It is `None` without keys.
    pub(crate) fn new(response: F, revoked: Option<CancellationToken>) -> Self {
        Self { response, revoked }
    }
}

impl<F, E> Future for RevocableResponse<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx))?;
        let Some(revoked) = this.revoked.take() else { return Poll::Ready(Ok(response)) };
        Poll::Ready(Ok(response.map(|body| {
            let revoked = revoked.cancelled_owned();
            Body::new(RevocableBody { body, revoked, is_ended: false })
        })))
    }
}

pin_project! {
    /// A response body that ends with `API_KEY_INVALID` when the key is revoked.
    struct RevocableBody {
        body: Body,
        #[pin]
        revoked: WaitForCancellationFutureOwned,
        is_ended: bool,
    }
}

impl HttpBody for RevocableBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.is_ended {
            return Poll::Ready(None);
        }
        if this.revoked.poll(cx).is_ready() {
            *this.is_ended = true;
            let status = RequestError::new(ErrorReason::ApiKeyInvalid).to_status();
            let mut trailers = HeaderMap::new();
            let added = status.add_header(&mut trailers);
            return Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt as _, future, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn open_response_ends_when_the_key_is_revoked() {
        let data = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(b"answer")))]);
        let body = Body::new(StreamBody::new(data.chain(stream::pending())));
        let revoked = CancellationToken::new();
        let response = future::ready(Ok::<_, Infallible>(Response::new(body)));
        let mut body = RevocableResponse::new(response, Some(revoked.clone())).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "answer");
        let (end, ()) = tokio::join!(body.frame(), async { revoked.cancel() });
        let trailers = end.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::Unauthenticated);
        assert!(body.frame().await.is_none());
    }
}
