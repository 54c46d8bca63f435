//! Records whether a part of a request body was left unread.
//!
//! On a connection of HTTP/1.1, hyper cannot find the next request behind such a body, and closes
//! the connection after the response. The response does not say so. A client that uses the
//! connection again would lose its next request.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Whether a request body of one connection was dropped before its end.
#[derive(Clone, Debug, Default)]
pub struct UnreadBody(Arc<AtomicBool>);

impl UnreadBody {
    /// Returns whether there was one.
    pub fn exists(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request body that sets an [`UnreadBody`] if it is dropped before its end.
#[derive(Debug)]
pub struct WatchedBody<B: Body> {
    body: B,
    unread: Option<UnreadBody>,
    /// Whether the end was read, or an error instead of it.
    has_ended: bool,
}

impl<B: Body> WatchedBody<B> {
    /// Watches `body` for `unread`, if there is one.
    pub fn new(body: B, unread: Option<UnreadBody>) -> Self {
        Self { body, unread, has_ended: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        this.has_ended |= !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        if let Some(unread) = &self.unread
            && !self.has_ended
            && !self.body.is_end_stream()
        {
            unread.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty, Full, StreamBody};

    use super::*;

    /// Returns whether `body` counts as unread after `frames` of its frames.
    async fn is_unread(body: impl Body<Data = Bytes, Error = &'static str> + Unpin, frames: usize) -> bool {
        let unread = UnreadBody::default();
        let mut body = WatchedBody::new(body, Some(unread.clone()));
        for _ in 0..frames {
            let _ = body.frame().await;
        }
        assert!(!unread.exists());
        drop(body);
        unread.exists()
    }

    fn chunks(
        chunks: Vec<Result<&'static str, &'static str>>,
    ) -> impl Body<Data = Bytes, Error = &'static str> {
        let frames = chunks.into_iter().map(|chunk| chunk.map(|text| Frame::data(Bytes::from(text))));
        StreamBody::new(futures::stream::iter(frames))
    }

    #[tokio::test]
    async fn body_is_unread_until_its_end() {
        let full = || Full::new(Bytes::from("image")).map_err(|_| "");
        assert_eq!((is_unread(full(), 0).await, is_unread(full(), 1).await), (true, false));
        assert!(!is_unread(Empty::new().map_err(|_| ""), 0).await);
        let two = || chunks(vec![Ok("a"), Ok("b")]);
        // The end of a chunked body is a frame of its own.
        assert!(is_unread(two(), 1).await && is_unread(two(), 2).await);
        assert!(!is_unread(two(), 3).await);
        assert!(!is_unread(chunks(vec![Ok("a"), Err("reset")]), 2).await);
    }
}
