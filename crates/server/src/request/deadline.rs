//! The deadline of a request, and streams that end at it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures::Stream;
use tokio::time::{Instant, Sleep, timeout_at};

use crate::{
    error::{ErrorReason, RequestError},
    request::until_error::UntilError,
};

/// The deadline that the client set. An extension of the HTTP request, if the client set one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// The deadline of a call whose client set none. An extension of the HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultDeadline(pub Deadline);

impl Deadline {
    /// Returns `items` up to the deadline. At the deadline, the stream drops `items` and ends with
    /// `DEADLINE_EXCEEDED`.
    pub fn bound<S, T, E>(deadline: Option<Self>, items: S) -> impl Stream<Item = S::Item>
    where
        S: Stream<Item = Result<T, E>>,
        E: From<RequestError>,
    {
        let end = deadline.map(|deadline| async move {
            let mut sleep = pin!(tokio::time::sleep_until(deadline.0));
            poll_fn(|cx| poll_deadline(sleep.as_mut(), cx)).await;
            deadline_exceeded()
        });
        UntilError::new(items, end)
    }
}

/// Returns the result of `work`, which ends at the deadline.
///
/// # Errors
/// Those of `work`, or that of a deadline that has passed.
pub(crate) async fn before<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.map_err(|_| deadline_exceeded())?,
        None => work.await,
    }
}

/// Is ready from the deadline on. The timer itself wakes up to a millisecond later, after tonic's.
pub(crate) fn poll_deadline(sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if Instant::now() >= sleep.deadline() {
        return Poll::Ready(());
    }
    sleep.poll(cx)
}

/// Returns the error of a call whose deadline has passed.
pub(crate) fn deadline_exceeded() -> RequestError {
    RequestError::new(ErrorReason::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt as _, stream};
    use tonic::{Code, Status};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stream_ends_with_deadline_exceeded_after_ready_items() {
        let items = stream::iter([Ok(1), Ok(2)]).chain(stream::pending());
        let deadline = Deadline(Instant::now() + Duration::from_secs(5));
        let seen: Vec<Result<i32, Status>> = Deadline::bound(Some(deadline), items).collect().await;
        let [Ok(1), Ok(2), Err(status)] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(Instant::now(), deadline.0);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_without_deadline_is_unchanged() {
        let items = stream::iter([Ok::<_, Status>(1)]);
        assert_eq!(Deadline::bound(None, items).count().await, 1);
    }
}
