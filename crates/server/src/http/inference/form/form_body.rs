//! The body of a form, with a limit on what precedes the content of each part.
//!
//! The parser of forms buffers what precedes a content, and searches all of it again whenever more
//! arrives. Without a limit, headers that do not end would cost time that grows with the square of
//! their length.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

use crate::error::{ErrorReason, RequestError};

/// The maximum number of bytes that the parser may read before the content of a part: the preamble
/// of the form, a boundary and the headers of the part.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// The number of these bytes that the parser receives at a time. The end of the headers can be
/// anywhere in them.
const PIECE_BYTES: usize = 4 << 10;

/// The body of a form. It ends with an error if a part has too many bytes before its content.
#[derive(Debug)]
pub(crate) struct FormBody<S> {
    body: S,
    allowance: Allowance,
    /// Bytes of `body` that the parser has not received.
    unread: Bytes,
    /// Whether the parser must search the last piece before it receives the next one.
    is_paused: bool,
}

/// The number of bytes that the parser may still read before the content of a part. Clones share
/// it.
#[derive(Clone, Debug)]
pub(crate) struct Allowance(Arc<AtomicUsize>);

/// The allowance of a content, which the body itself limits.
const UNLIMITED: usize = usize::MAX;

impl Allowance {
    /// Limits the bytes before the next content.
    pub(crate) fn begin_headers(&self) {
        self.0.store(MAX_HEADER_BYTES, Ordering::Relaxed);
    }

    /// Ends the limit until the content is read.
    pub(crate) fn begin_content(&self) {
        self.0.store(UNLIMITED, Ordering::Relaxed);
    }
}

impl<S> FormBody<S> {
    /// Creates the body of a form and its allowance.
    pub(crate) fn new(body: S) -> (Self, Allowance) {
        let allowance = Allowance(Arc::new(AtomicUsize::new(MAX_HEADER_BYTES)));
        let form = Self { body, allowance: allowance.clone(), unread: Bytes::new(), is_paused: false };
        (form, allowance)
    }
}

impl<S> Stream for FormBody<S>
where
    S: Stream<Item = Result<Bytes, RequestError>> + Unpin,
{
    type Item = Result<Bytes, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let allowed = this.allowance.0.load(Ordering::Relaxed);
        if allowed != UNLIMITED && std::mem::take(&mut this.is_paused) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while this.unread.is_empty() {
            match ready!(this.body.poll_next_unpin(cx)) {
                Some(Ok(bytes)) => this.unread = bytes,
                end => return Poll::Ready(end),
            }
        }
        if allowed == UNLIMITED {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.unread))));
        }
        if allowed == 0 {
            let cause = format_args!("part headers too long: {MAX_HEADER_BYTES} bytes allowed");
            return Poll::Ready(Some(Err(RequestError::new(ErrorReason::BodyUnreadable).cause(cause))));
        }
        let piece = this.unread.split_to(this.unread.len().min(PIECE_BYTES).min(allowed));
        this.allowance.0.store(allowed - piece.len(), Ordering::Relaxed);
        this.is_paused = true;
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, stream};

    use super::*;

    fn body(chunks: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, RequestError>> + Unpin {
        stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect::<Vec<_>>())
    }

    #[test]
    fn headers_arrive_in_pieces_and_end_at_the_limit() {
        let (form, _) = FormBody::new(body(&[&[7; 100], &[], &[7; 20_000]]));
        let received: Vec<_> = block_on(form.take(6).collect());
        let (error, pieces) = received.split_last().unwrap();
        let lengths: Vec<_> = pieces.iter().map(|piece| piece.as_ref().unwrap().len()).collect();
        assert_eq!(lengths, [100, 4096, 4096, 4096, 3996]);
        let message = error.as_ref().unwrap_err().to_string();
        assert_eq!(message, "cannot read the request body: part headers too long: 16384 bytes allowed");
    }

    #[test]
    fn content_arrives_unchanged_and_renews_the_limit() {
        let (mut form, allowance) = FormBody::new(body(&[&[1; 9000], &[2; 50_000], &[3; 16_384]]));
        let next = |form: &mut FormBody<_>| block_on(form.next()).unwrap().unwrap().len();
        assert_eq!(next(&mut form), 4096);
        allowance.begin_content();
        assert_eq!([next(&mut form), next(&mut form)], [4904, 50_000]);
        allowance.begin_headers();
        assert_eq!([next(&mut form), next(&mut form), next(&mut form), next(&mut form)], [4096; 4]);
        assert!(block_on(form.next()).is_none());
    }
}
