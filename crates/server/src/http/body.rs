//! Request bodies: they reserve memory while they arrive, and have limits on length and idle time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body::Body as _;
use tokio::task::spawn_blocking;

use crate::{
    error::{ErrorReason, RequestError},
    request::{
        memory_budget::{ArrivingMessage, BudgetPermit, CallerBudget},
        upload_timer::UploadTimer,
    },
};

/// The maximum capacity that is allocated before the data arrives. A client cannot occupy more by
/// announcing a length.
const MAX_INITIAL_BYTES: usize = 64 << 10;

/// The largest body that is decoded on the connection's thread, in bytes. Base64 of many megabytes
/// would delay the other connections of the thread.
const INLINE_BYTES: usize = 32 << 10;

/// The only accepted content-encoding: none.
const IDENTITY: &str = "identity";

/// A body as a stream of chunks that ends with its first error.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Body,
    permit: BudgetPermit,
    message: ArrivingMessage,
    announced_bytes: Option<usize>,
    timer: UploadTimer,
}

impl RequestBody {
    /// Creates the body of a request with `headers`, which reserves memory in `budget`.
    ///
    /// # Errors
    /// A [`RequestError`] if the body is compressed, or if the announced length is over the limit
    /// or over the memory that the caller may hold. Nothing of the body is read then.
    pub(crate) fn new(headers: &HeaderMap, body: Body, budget: CallerBudget) -> Result<Self, RequestError> {
        check_encoding(headers)?;
        let announced_bytes =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let permit = BudgetPermit::default();
        let message = budget.begin(&permit, announced_bytes)?;
        Ok(Self { body, permit, message, announced_bytes, timer: UploadTimer::start(budget) })
    }

    /// Returns the memory of the body. The caller holds it as long as anything decoded from the
    /// body.
    pub(crate) fn permit(&self) -> BudgetPermit {
        self.permit.clone()
    }

    /// Returns the whole body.
    ///
    /// # Errors
    /// The first [`RequestError`].
    pub(crate) async fn collect(mut self) -> Result<Bytes, RequestError> {
        let Some(first) = self.next().await.transpose()? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await.transpose()? else { return Ok(first) };
        let announced = self.announced_bytes.unwrap_or_default();
        let mut whole = BytesMut::with_capacity(announced.min(MAX_INITIAL_BYTES));
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        drop((first, second));
        while let Some(chunk) = self.next().await.transpose()? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers have no meaning in this API.
                    let Ok(data) = frame.into_data() else { continue };
                    this.timer.progress();
                    return Poll::Ready(Some(this.message.receive(data.len()).map(|()| data)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = RequestError::new(ErrorReason::BodyUnreadable).cause(root_cause(&error));
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return this.timer.poll(cx).map(|error| Some(Err(error))),
            }
        }
    }
}

/// Decodes a body by `decode`. A long body does not delay the other connections.
///
/// # Errors
/// Those of `decode`.
pub(crate) async fn decode_body<T: Send + 'static>(
    body: Bytes,
    decode: impl FnOnce(&Bytes) -> Result<T, RequestError> + Send + 'static,
) -> Result<T, RequestError> {
    if body.len() <= INLINE_BYTES {
        return decode(&body);
    }
    let decoded = spawn_blocking(move || decode(&body)).await;
    decoded.unwrap_or_else(|error| Err(RequestError::new(ErrorReason::InternalError).cause(error)))
}

/// Rejects a compressed body. Image files are compressed themselves.
fn check_encoding(headers: &HeaderMap) -> Result<(), RequestError> {
    let is_encoded = |value: &&HeaderValue| !value.as_bytes().eq_ignore_ascii_case(IDENTITY.as_bytes());
    match headers.get_all(CONTENT_ENCODING).iter().find(is_encoded) {
        None => Ok(()),
        Some(encoding) => Err(RequestError::new(ErrorReason::MediaTypeRefused)
            .field(CONTENT_ENCODING)
            .value(String::from_utf8_lossy(encoding.as_bytes()))
            .limit(IDENTITY)),
    }
}

/// Returns the innermost source of an error. The outer errors of libraries often have no details.
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
    use tokio::time::Instant;

    use super::*;
    use crate::request::memory_budget::tests::{IDLE_TIMEOUT, UPLOAD_TIMEOUT, caller_budget as budget};

    fn body(budget: &CallerBudget, chunks: impl Stream<Item = Vec<u8>> + Send + 'static) -> RequestBody {
        let chunks = chunks.map(Ok::<_, std::convert::Infallible>);
        RequestBody::new(&HeaderMap::new(), Body::from_stream(chunks), budget.clone()).unwrap()
    }

    #[tokio::test]
    async fn body_reserves_memory_as_it_arrives_and_returns_it() {
        let budget = budget(1 << 20, 1 << 20);
        let body = body(&budget, stream::iter(vec![vec![7; 300 << 10]; 2]));
        let permit = body.permit();
        assert_eq!(body.collect().await.unwrap(), vec![7; 600 << 10]);
        let other = BudgetPermit::default();
        assert_eq!(budget.begin(&other, Some(600 << 10)).unwrap_err().reason(), ErrorReason::ServerBusy);
        drop(permit);
        assert!(budget.begin(&other, Some(600 << 10)).is_ok());
    }

    #[tokio::test]
    async fn body_of_unknown_length_is_rejected_at_its_first_excess_byte() {
        let exact = body(&budget(1 << 20, 100_000), stream::iter(vec![vec![7; 50_000]; 2]));
        assert_eq!(exact.collect().await.unwrap().len(), 100_000);
        let longer = body(&budget(1 << 20, 100_000), stream::iter(vec![vec![7; 50_000], vec![7; 50_001]]));
        assert_eq!(
            longer.collect().await.unwrap_err().to_string(),
            "request message too large: at least 100001 bytes, 100000 bytes allowed"
        );
    }

    #[test]
    fn announced_length_is_rejected_before_the_body_is_read() {
        let announced = |length: &'static str, budget: CallerBudget| {
            let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static(length))]);
            let chunks = stream::poll_fn(|_| -> Poll<Option<Result<Bytes, std::convert::Infallible>>> {
                panic!("read")
            });
            let body = RequestBody::new(&headers, Body::from_stream(chunks), budget);
            body.map(|_| ()).map_err(|error| error.reason())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        assert_eq!(announced("100", budget(1000, 100)), Ok(()));
        assert_eq!(announced("101", budget(1000, 100)), Err(ErrorReason::MessageTooLarge));
        assert_eq!(announced("5000", budget(1000, 10_000)), Err(ErrorReason::ServerBusy));
    }

    #[tokio::test]
    async fn compressed_body_is_rejected_and_identity_is_accepted() {
        let read = |encodings: &[&'static str]| {
            let encodings = encodings.iter().map(|text| (CONTENT_ENCODING, HeaderValue::from_static(text)));
            let body = RequestBody::new(&encodings.collect(), Body::empty(), budget(1000, 100));
            body.map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!((read(&[]), read(&["identity", "Identity"])), (Ok(()), Ok(())));
        for encodings in [&["gzip"] as &[_], &["identity", "gzip"]] {
            let expected = "unsupported media type in content-encoding: gzip, expected identity";
            assert_eq!(read(encodings), Err(expected.to_owned()));
        }
        assert!(read(&["gzip, br"]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_body_is_rejected_and_slow_body_is_accepted() {
        let pause = IDLE_TIMEOUT - Duration::from_secs(1);
        let slow = stream::iter(0..4).then(move |chunk| async move {
            tokio::time::sleep(pause).await;
            vec![chunk]
        });
        let budget = budget(1 << 20, 1 << 20);
        assert_eq!(body(&budget, slow).collect().await.unwrap(), [0, 1, 2, 3].as_slice());

        let begin = Instant::now();
        let idle = body(&budget, stream::iter([vec![7]]).chain(stream::pending()));
        assert_eq!(idle.collect().await.unwrap_err().to_string(), "request upload idle for 20 s");
        assert_eq!(begin.elapsed(), IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_is_rejected_despite_its_progress() {
        let begin = Instant::now();
        let drip = stream::iter(0..200).then(|chunk| async move {
            tokio::time::sleep(IDLE_TIMEOUT / 2).await;
            vec![chunk]
        });
        let error = body(&budget(1 << 20, 1 << 20), drip).collect().await.unwrap_err();
        assert_eq!(error.to_string(), "request upload not complete after 600 s");
        assert_eq!(begin.elapsed(), UPLOAD_TIMEOUT);
    }
}
