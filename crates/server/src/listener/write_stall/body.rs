//! A response body that gives its data in small pieces, and records when the client takes them.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// The maximum size of a piece. hyper holds one piece of a stream for the client, in addition to
/// what the client's window allows.
const PIECE_BYTES: usize = 16 << 10;

/// The maximum size of the last piece of a chunk. When hyper has the last piece of a response, the
/// task of the stream ends, and nothing watches the client any more.
const LAST_PIECE_BYTES: usize = 4 << 10;

tokio::task_local! {
    static STREAM: Arc<Progress>;
}

/// Polls a stream, so that the bodies in it record what `progress` counts.
pub(crate) fn in_stream<T>(progress: &Arc<Progress>, poll: impl FnOnce() -> T) -> T {
    STREAM.sync_scope(Arc::clone(progress), poll)
}

/// Who has to act next in a stream: the server or its client.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The number of pieces that were given, plus one for a body. It is 0 before the response.
    pieces: AtomicU64,
    /// Whether the last poll of the stream ended because the client has no room.
    is_untaken: AtomicBool,
}

impl Progress {
    /// Begins a poll of the stream. A stream with a body waits for its client, unless the body says
    /// during the poll that it has no data.
    pub(crate) fn begin_poll(&self) {
        let has_body = self.pieces.load(Ordering::Relaxed) > 0;
        self.is_untaken.store(has_body, Ordering::Relaxed);
    }

    /// Returns the number of pieces if the client has to take the last one.
    pub(crate) fn untaken(&self) -> Option<u64> {
        self.is_untaken.load(Ordering::Relaxed).then(|| self.pieces.load(Ordering::Relaxed))
    }

    fn give_piece(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.is_untaken.store(true, Ordering::Relaxed);
    }

    fn wait_for_server(&self) {
        self.is_untaken.store(false, Ordering::Relaxed);
    }
}

pin_project! {
    /// The body. See the module.
    pub(crate) struct PacedBody<B> {
        #[pin]
        body: B,
        // The part of a chunk that was not given yet.
        rest: Bytes,
        // `None` on a connection of HTTP/1.1, where a stream is no task.
        progress: Option<Arc<Progress>>,
    }
}

impl<B> PacedBody<B> {
    /// Wraps the body of the response that the current stream sends.
    pub(crate) fn new(body: B) -> Self {
        let progress = STREAM.try_with(Arc::clone).ok();
        if let Some(progress) = &progress {
            progress.give_piece();
        }
        Self { body, rest: Bytes::new(), progress }
    }
}

impl<B: Body<Data = Bytes>> Body for PacedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let progress = this.progress.as_deref();
        let frame = if this.rest.is_empty() {
            let polled = this.body.poll_frame(cx);
            if let (Poll::Pending, Some(progress)) = (&polled, progress) {
                progress.wait_for_server();
            }
            ready!(polled)
        } else {
            Some(Ok(Frame::data(std::mem::take(this.rest))))
        };
        if let Some(progress) = progress {
            progress.give_piece();
        }
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(|chunk| split(chunk, this.rest)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// Returns the next piece of `chunk` and stores the rest.
fn split(mut chunk: Bytes, rest: &mut Bytes) -> Bytes {
    let size = match chunk.len() {
        length if length <= LAST_PIECE_BYTES => return chunk,
        length => PIECE_BYTES.min(length - LAST_PIECE_BYTES),
    };
    let piece = chunk.split_to(size);
    // The last piece must not hold the memory of the whole chunk.
    *rest = if chunk.len() <= LAST_PIECE_BYTES { Bytes::copy_from_slice(&chunk) } else { chunk };
    piece
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use proptest::prelude::*;

    use super::*;

    async fn pieces(data: &[u8]) -> Vec<Bytes> {
        let mut body = PacedBody::new(Full::new(Bytes::copy_from_slice(data)));
        let mut pieces = Vec::new();
        assert_eq!(body.size_hint().exact(), Some(data.len() as u64));
        while let Some(frame) = body.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
            let given: usize = pieces.iter().map(Bytes::len).sum();
            assert_eq!(body.size_hint().exact(), Some((data.len() - given) as u64));
            assert_eq!(body.is_end_stream(), given == data.len());
        }
        pieces
    }

    proptest! {
        #[test]
        fn pieces_are_small_and_make_up_the_body(length in 0_usize..100_000) {
            let data: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let pieces = futures::executor::block_on(pieces(&data));
            prop_assert_eq!(pieces.concat(), data);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
            prop_assert!(pieces.last().is_none_or(|piece| piece.len() <= LAST_PIECE_BYTES));
        }
    }
}
