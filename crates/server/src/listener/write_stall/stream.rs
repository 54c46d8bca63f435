//! Runs HTTP/2 streams, and resets those whose client takes nothing.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::{
    listener::write_stall::body::{Progress, in_stream},
    telemetry::metrics::count_write_stall,
};

/// Spawns the streams of a connection as tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamExecutor {
    /// The time in which a client must take a piece of a response.
    pub(crate) limit: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(WatchedStream::new(stream, self.limit));
    }
}

pin_project! {
    /// A stream that ends when its client takes nothing for the time limit.
    struct WatchedStream<F> {
        #[pin]
        stream: F,
        progress: Arc<Progress>,
        limit: Duration,
        // The number of pieces at the start of the timer.
        pieces: u64,
        // Runs while the client has to take a piece.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F> WatchedStream<F> {
    fn new(stream: F, limit: Duration) -> Self {
        Self { stream, progress: Arc::default(), limit, pieces: 0, timer: None }
    }
}

impl<F: Future<Output = ()>> Future for WatchedStream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        this.progress.begin_poll();
        if in_stream(this.progress, || this.stream.poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        let Some(pieces) = this.progress.untaken() else {
            this.timer.set(None);
            return Poll::Pending;
        };
        if this.timer.is_none() || *this.pieces != pieces {
            *this.pieces = pieces;
            this.timer.set(Some(sleep(*this.limit)));
        }
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        count_write_stall("stream");
        tracing::debug!(limit = ?this.limit, "stream reset: the client takes no data");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{Stream, StreamExt as _, future, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::listener::write_stall::body::PacedBody;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Sends the body of `chunks` as hyper does. The client takes each piece after `pace`.
    async fn send(chunks: impl Stream<Item = usize> + Send, pace: Duration) {
        let frames = chunks.map(|size| Ok::<_, ()>(Frame::data(Bytes::from(vec![7; size]))));
        let mut body = PacedBody::new(StreamBody::new(Box::pin(frames)));
        while body.frame().await.is_some() {
            tokio::time::sleep(pace).await;
        }
    }

    /// Returns the time after which the stream ends, or `None` if it does not end within an hour.
    async fn end_of(stream: impl Future<Output = ()>) -> Option<Duration> {
        let begin = Instant::now();
        let watched = WatchedStream::new(stream, LIMIT);
        timeout(Duration::from_secs(3600), watched).await.ok().map(|()| begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn stream_ends_if_a_piece_is_not_taken_in_time() {
        assert_eq!(end_of(send(stream::iter([100]), Duration::MAX)).await, Some(LIMIT));
        let large = stream::iter([1 << 20]);
        assert_eq!(end_of(send(large, LIMIT + Duration::from_secs(1))).await, Some(LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_gets_the_whole_response() {
        let pace = LIMIT - Duration::from_secs(1);
        assert_eq!(end_of(send(stream::iter([10; 5]), pace)).await, Some(5 * pace));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_server_does_not_end_the_stream() {
        assert_eq!(end_of(future::pending()).await, None);
        let never = stream::iter([10]).chain(stream::pending());
        assert_eq!(end_of(send(never, Duration::ZERO)).await, None);
    }
}
