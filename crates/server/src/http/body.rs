//! A request body on its way in: it takes room as it arrives, and may neither be too long nor stand still.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use crate::{
    error::{ErrorReason, RequestError},
    request::memory_budget::{BudgetPermit, MemoryBudget},
};

/// Room is taken in steps of so many bytes: a caller who only announces a long body holds none.
const STEP_BYTES: usize = 64 << 10;

/// Memory is asked for ahead of what arrives by at most so many bytes, for the same reason.
const AHEAD_BYTES: usize = 1 << 20;

/// The pieces of a body, up to the first refusal.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Body,
    room: MemoryBudget,
    held: BudgetPermit,
    announced_bytes: Option<usize>,
    received_bytes: usize,
    /// How much of the room this body has.
    taken_bytes: usize,
    /// Runs while more is waited for.
    stall: Pin<Box<Sleep>>,
}

impl Upload {
    /// The body of a request with these headers, in `room`.
    ///
    /// # Errors
    /// A [`RequestError`] if the announced length is over the limit, or finds no room now: then nothing of it is read.
    pub(crate) fn new(headers: &HeaderMap, body: Body, room: MemoryBudget) -> Result<Self, RequestError> {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(length) = length {
            drop(room.hold(length)?);
        }
        Ok(Self {
            body,
            held: BudgetPermit::default(),
            announced_bytes: length,
            received_bytes: 0,
            taken_bytes: 0,
            stall: Box::pin(tokio::time::sleep(room.stall_limit())),
            room,
        })
    }

    /// The room that the body takes; it is to be kept as long as what is made of the body.
    pub(crate) fn held(&self) -> BudgetPermit {
        self.held.clone()
    }

    /// The whole body.
    ///
    /// # Errors
    /// The first [`RequestError`].
    pub(crate) async fn collect(mut self) -> Result<Bytes, RequestError> {
        let Some(first) = self.next().await.transpose()? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await.transpose()? else { return Ok(first) };
        let announced = self.announced_bytes.unwrap_or_default();
        let mut whole = BytesMut::with_capacity(announced.min(AHEAD_BYTES));
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        drop((first, second));
        while let Some(piece) = self.next().await.transpose()? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    fn receive(&mut self, bytes: usize) -> Result<(), RequestError> {
        if let Some(limit) = Instant::now().checked_add(self.room.stall_limit()) {
            self.stall.as_mut().reset(limit);
        }
        self.received_bytes += bytes;
        let missing = self.received_bytes.saturating_sub(self.taken_bytes);
        if missing > 0 {
            let allowed = self.room.max_message_bytes().saturating_sub(self.taken_bytes);
            let more = missing.max(STEP_BYTES.min(allowed));
            self.room.extend(&self.held, self.taken_bytes, more)?;
            self.taken_bytes += more;
        }
        Ok(())
    }
}

impl Stream for Upload {
    type Item = Result<Bytes, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers say nothing here.
                    let Ok(data) = frame.into_data() else { continue };
                    return Poll::Ready(Some(this.receive(data.len()).map(|()| data)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let refusal = RequestError::new(ErrorReason::BodyUnreadable).cause(root_cause(&error));
                    return Poll::Ready(Some(Err(refusal)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if this.stall.as_mut().poll(cx).is_ready() => {
                    let limit = format!("{} s", this.room.stall_limit().as_secs());
                    return Poll::Ready(Some(Err(
                        RequestError::new(ErrorReason::UploadStalled).limit(limit)
                    )));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// What lies under a library's wrappers, which often say nothing themselves.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream;
    use http::HeaderValue;

    use super::*;

    const STALL_LIMIT: Duration = Duration::from_secs(20);

    fn upload(room: &MemoryBudget, pieces: impl Stream<Item = Vec<u8>> + Send + 'static) -> Upload {
        let pieces = pieces.map(Ok::<_, std::convert::Infallible>);
        Upload::new(&HeaderMap::new(), Body::from_stream(pieces), room.clone()).unwrap()
    }

    fn room(capacity_bytes: usize, max_message_bytes: usize) -> MemoryBudget {
        MemoryBudget::new(capacity_bytes, max_message_bytes, STALL_LIMIT)
    }

    #[tokio::test]
    async fn a_body_takes_room_as_it_arrives_and_gives_it_back() {
        let room = room(1 << 20, 1 << 20);
        let body = upload(&room, stream::iter(vec![vec![7; 300 << 10]; 2]));
        let held = body.held();
        assert_eq!(body.collect().await.unwrap(), vec![7; 600 << 10]);
        let refusal = room.hold(600 << 10).unwrap_err();
        assert_eq!(refusal.reason(), ErrorReason::ServerBusy);
        drop(held);
        assert!(room.hold(1 << 20).is_ok());
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_refused_with_its_first_byte_too_many() {
        let exact = upload(&room(1 << 20, 100_000), stream::iter(vec![vec![7; 50_000]; 2]));
        assert_eq!(exact.collect().await.unwrap().len(), 100_000);
        let longer = upload(&room(1 << 20, 100_000), stream::iter(vec![vec![7; 50_000], vec![7; 50_001]]));
        let refusal = longer.collect().await.unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "request message too large: at least 100001 bytes, 100000 bytes allowed"
        );
    }

    #[test]
    fn an_announced_length_is_refused_before_anything_is_read() {
        let announced = |length: &'static str, room: MemoryBudget| {
            let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static(length))]);
            let pieces = stream::poll_fn(|_| -> Poll<Option<Result<Bytes, std::convert::Infallible>>> {
                panic!("read")
            });
            Upload::new(&headers, Body::from_stream(pieces), room)
                .map(|_| ())
                .map_err(|refusal| refusal.reason())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        assert_eq!(announced("100", room(1000, 100)), Ok(()));
        assert_eq!(announced("101", room(1000, 100)), Err(ErrorReason::MessageTooLarge));
        assert_eq!(announced("5000", room(1000, 10_000)), Err(ErrorReason::ServerBusy));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_refused_and_a_slow_one_is_not() {
        let pause = STALL_LIMIT - Duration::from_secs(1);
        let slow = stream::iter(0..4).then(move |piece| async move {
            tokio::time::sleep(pause).await;
            vec![piece]
        });
        let room = room(1 << 20, 1 << 20);
        assert_eq!(upload(&room, slow).collect().await.unwrap(), [0, 1, 2, 3].as_slice());

        let begin = Instant::now();
        let stuck = upload(&room, stream::iter([vec![7]]).chain(stream::pending()));
        assert_eq!(
            stuck.collect().await.unwrap_err().to_string(),
            "request upload idle for 20 s"
        );
        assert_eq!(begin.elapsed(), STALL_LIMIT);
    }
}
