//! The layer that applies the deadline of a call.
//!
//! It reads `grpc-timeout`, stores the deadline in the request, and ends a late call with
//! `DEADLINE_EXCEEDED`. After the response headers, [`Deadline::bound`] ends the stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    error::{ErrorReason, RequestError},
    request::deadline::{Deadline, DefaultDeadline, deadline_exceeded, poll_deadline},
};

const HEADER: &str = "grpc-timeout";

/// Returns the timeout in the `grpc-timeout` header, or `None` without the header.
///
/// The gRPC specification defines it as 1 to 8 digits and a unit.
///
/// # Errors
/// A [`RequestError`] if the header is invalid.
pub fn parse_timeout(headers: &HeaderMap) -> Result<Option<Duration>, RequestError> {
    let Some(header) = headers.get(HEADER) else { return Ok(None) };
    let text = String::from_utf8_lossy(header.as_bytes());
    let invalid = || RequestError::new(ErrorReason::InvalidDeadline).field(HEADER).value(text.as_ref());
    let unit = text.chars().next_back().ok_or_else(invalid)?;
    let digits = text.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let amount: u64 = digits.parse().map_err(|_| invalid())?;
    match unit {
        'H' => Ok(Some(Duration::from_secs(amount * 3600))),
        'M' => Ok(Some(Duration::from_secs(amount * 60))),
        'S' => Ok(Some(Duration::from_secs(amount))),
        'm' => Ok(Some(Duration::from_millis(amount))),
        'u' => Ok(Some(Duration::from_micros(amount))),
        'n' => Ok(Some(Duration::from_nanos(amount))),
        _ => Err(invalid()),
    }
}

/// The layer. See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer {
    /// The time until the first response of a call without a deadline, upload included.
    pub default_deadline: Option<Duration>,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, default_deadline: self.default_deadline }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    default_deadline: Option<Duration>,
}

impl<S, Body, ResponseBody> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<ResponseBody>>,
    ResponseBody: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let timeout = match parse_timeout(request.headers()) {
            Ok(timeout) => timeout,
            Err(error) => return ResponseFuture { inner: None, sleep: None, error: Some(error) },
        };
        // A time that overflows is no deadline.
        let after = |wait| Instant::now().checked_add(wait);
        if let Some(deadline) = timeout.and_then(after) {
            request.extensions_mut().insert(Deadline(deadline));
        }
        let limit = timeout.or(self.default_deadline).and_then(after);
        if let (None, Some(limit)) = (timeout, limit) {
            request.extensions_mut().insert(DefaultDeadline(Deadline(limit)));
        }
        let inner = Some(self.inner.call(request));
        ResponseFuture { inner, sleep: limit.map(tokio::time::sleep_until), error: None }
    }
}

pin_project! {
    /// The future of the response headers.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        // `None` if the header is invalid.
        #[pin]
        inner: Option<F>,
        #[pin]
        sleep: Option<Sleep>,
        error: Option<RequestError>,
    }
}

impl<F, E, Body> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
    Body: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(error) = this.error.take() {
            return Poll::Ready(Ok(error.to_status().into_http()));
        }
        if let Some(inner) = this.inner.as_pin_mut()
            && let ready @ Poll::Ready(_) = inner.poll(cx)
        {
            return ready;
        }
        let Some(sleep) = this.sleep.as_pin_mut() else { return Poll::Pending };
        ready!(poll_deadline(sleep, cx));
        Poll::Ready(Ok(deadline_exceeded().to_status().into_http()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use tonic::{Code, Status};

    use super::*;

    fn parse(text: &str) -> Result<Option<Duration>, RequestError> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(text).unwrap());
        parse_timeout(&headers)
    }

    #[test]
    fn every_unit_of_the_specification_is_parsed() {
        assert_eq!(parse_timeout(&HeaderMap::new()), Ok(None));
        for (text, seconds) in
            [("2H", 7200.0), ("3M", 180.0), ("4S", 4.0), ("5m", 5e-3), ("6u", 6e-6), ("7n", 7e-9)]
        {
            assert_eq!(parse(text), Ok(Some(Duration::from_secs_f64(seconds))), "{text}");
        }
        assert_eq!(parse("99999999H"), Ok(Some(Duration::from_secs(99_999_999 * 3600))));
    }

    #[test]
    fn invalid_timeout_is_rejected() {
        for text in ["", "S", "1", "123456789S", "-1S", "+1S", "1.5S", "1s", "1 S", "1SS", "\u{661}S"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.reason(), ErrorReason::InvalidDeadline, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_amount_in_any_unit_is_parsed(amount in 0_u64..=99_999_999, unit in 0_usize..6) {
            let (letter, nanoseconds) = [("H", 3_600_000_000_000_u128), ("M", 60_000_000_000), ("S", 1_000_000_000),
                ("m", 1_000_000), ("u", 1_000), ("n", 1)][unit];
            let parsed = parse(&format!("{amount}{letter}")).unwrap().unwrap();
            prop_assert_eq!(parsed.as_nanos(), u128::from(amount) * nanoseconds);
        }

        #[test]
        fn any_header_is_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(HEADER, value);
                let _ = parse_timeout(&headers);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn late_call_ends_with_deadline_exceeded() {
        let never = tower::service_fn(|request: Request<()>| async move {
            assert!(request.extensions().get::<Deadline>().is_some());
            futures::future::pending::<Result<Response<String>, std::convert::Infallible>>().await
        });
        let request = Request::builder().header(HEADER, "1S").body(()).unwrap();
        let response = DeadlineLayer::default().layer(never).call(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}
