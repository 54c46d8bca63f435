//! What becomes of a request body that was not read to its end.
//!
//! On a connection of HTTP/1.1, hyper cannot find the next request behind such a body. If the rest
//! has not arrived yet, hyper closes the connection after the response, which does not say so. A
//! client that uses the connection again would lose its next request. Therefore a short rest is
//! read before the response, and a response with a longer one announces the close.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// The longest rest that is read, in bytes.
const MAX_REST_BYTES: u64 = 64 << 10;

/// How long a response waits for the rest of the body. It is on its way, unless the client waits
/// for the response.
const REST_TIMEOUT: Duration = Duration::from_millis(250);

/// Whether a connection has a request body that was not read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnreadBody(Arc<AtomicBool>);

impl UnreadBody {
    /// Returns whether there is one.
    pub(crate) fn exists(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The request bodies of one connection of HTTP/1.1, which has one request at a time.
#[derive(Debug)]
pub(crate) struct BodyTracker<B>(Arc<Shared<B>>);

#[derive(Debug)]
struct Shared<B> {
    unread: UnreadBody,
    /// The body that the service dropped before its end.
    dropped: Mutex<Option<B>>,
}

impl<B> Clone for BodyTracker<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Body<Data = Bytes> + Unpin> BodyTracker<B> {
    pub(crate) fn new(unread: UnreadBody) -> Self {
        Self(Arc::new(Shared { unread, dropped: Mutex::default() }))
    }

    /// Returns the body of the next request.
    pub(crate) fn watch(&self, body: B) -> WatchedBody<B> {
        self.set_unread(!body.is_end_stream());
        WatchedBody { body: Some(body), tracker: Some(self.clone()) }
    }

    /// Returns whether the body was read to its end. Before that, it reads a short rest of a body
    /// that the service dropped, if `reads_rest`.
    pub(crate) async fn has_ended(&self, reads_rest: bool) -> bool {
        let dropped = self.0.dropped.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = dropped
            && reads_rest
            && timeout(REST_TIMEOUT, read_rest(body)).await == Ok(true)
        {
            self.set_unread(false);
        }
        !self.0.unread.exists()
    }

    fn set_unread(&self, unread: bool) {
        self.0.unread.0.store(unread, Ordering::Relaxed);
    }
}

/// Reads a body to its end. Returns false if it is too long or fails.
async fn read_rest<B: Body<Data = Bytes> + Unpin>(mut body: B) -> bool {
    let mut bytes = body.size_hint().lower();
    while bytes <= MAX_REST_BYTES {
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
        }
    }
    false
}

/// A request body that reports its end to a `BodyTracker`.
#[derive(Debug)]
pub struct WatchedBody<B: Body<Data = Bytes> + Unpin> {
    /// `None` only while it is dropped.
    body: Option<B>,
    tracker: Option<BodyTracker<B>>,
}

impl<B: Body<Data = Bytes> + Unpin> WatchedBody<B> {
    /// Returns a body without a tracker, as in HTTP/2, whose streams end one by one.
    pub(crate) fn unwatched(body: B) -> Self {
        Self { body: Some(body), tracker: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        // After an error, there is no next request.
        if (body.is_end_stream() || !matches!(frame, Some(Ok(_))))
            && let Some(tracker) = self.tracker.take()
        {
            tracker.set_unread(false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        if let Some(tracker) = &self.tracker
            && tracker.0.unread.exists()
        {
            *tracker.0.dropped.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{
        StreamExt as _,
        stream::{self, BoxStream},
    };
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;

    type Frames = BoxStream<'static, Result<Frame<Bytes>, &'static str>>;

    fn chunks(chunks: Vec<Result<Vec<u8>, &'static str>>) -> StreamBody<Frames> {
        let frames = chunks.into_iter().map(|chunk| chunk.map(|data| Frame::data(Bytes::from(data))));
        StreamBody::new(stream::iter(frames).boxed())
    }

    fn endless() -> StreamBody<Frames> {
        StreamBody::new(
            stream::once(async { Ok(Frame::data(Bytes::from("a"))) }).chain(stream::pending()).boxed(),
        )
    }

    /// Returns whether a body counts as ended when the service has read `frames` of its frames, and
    /// has dropped it or not.
    async fn has_ended(body: StreamBody<Frames>, frames: usize, drops: bool) -> bool {
        let unread = UnreadBody::default();
        let tracker = BodyTracker::new(unread.clone());
        let mut body = tracker.watch(body);
        for _ in 0..frames {
            let _ = body.frame().await;
        }
        let body = (!drops).then_some(body);
        let ended = tracker.has_ended(true).await;
        assert_eq!(unread.exists(), !ended);
        drop(body);
        ended
    }

    #[tokio::test]
    async fn body_has_ended_after_its_last_frame() {
        let two = || chunks(vec![Ok(vec![1]), Ok(vec![2])]);
        assert!(!has_ended(two(), 1, false).await && !has_ended(two(), 2, false).await);
        assert!(has_ended(two(), 3, false).await && has_ended(two(), 3, true).await);
        assert!(has_ended(chunks(vec![Err("reset")]), 1, false).await);
    }

    #[tokio::test(start_paused = true)]
    async fn short_rest_of_a_dropped_body_is_read() {
        let of_bytes = |bytes: u64| chunks(vec![Ok(vec![0; bytes as usize])]);
        for frames in [0, 1] {
            assert!(has_ended(of_bytes(10), frames, true).await);
        }
        assert!(has_ended(of_bytes(MAX_REST_BYTES), 0, true).await);
        assert!(!has_ended(of_bytes(MAX_REST_BYTES + 1), 0, true).await);
        assert!(!has_ended(chunks(vec![Ok(vec![1]), Err("reset")]), 1, true).await);
        let begin = Instant::now();
        assert!(!has_ended(endless(), 0, true).await);
        assert_eq!(begin.elapsed(), REST_TIMEOUT);
    }

    #[tokio::test]
    async fn each_request_has_a_new_state() {
        let tracker = BodyTracker::new(UnreadBody::default());
        drop(tracker.watch(chunks(vec![Ok(vec![1])])));
        assert!(!tracker.has_ended(false).await);
        let mut body = tracker.watch(chunks(vec![Ok(vec![1])]));
        while body.frame().await.is_some() {}
        assert!(tracker.has_ended(false).await);
    }
}
