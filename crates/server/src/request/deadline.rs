use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{ErrorReason, RequestError};

/// When a call's answers stop being of use to its caller; an extension of every request that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// When a call ends that has no [`Deadline`] of its caller's; an extension of every such request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultDeadline(pub Deadline);

impl Deadline {
    /// Passes `items` on until the deadline, then ends them with `DEADLINE_EXCEEDED` and drops what is left.
    pub fn bound<S>(deadline: Option<Self>, items: S) -> Bounded<S> {
        Bounded { items: Some(items), sleep: deadline.map(|deadline| tokio::time::sleep_until(deadline.0)) }
    }
}

pin_project! {
    /// The stream that [`Deadline::bound`] makes.
    #[derive(Debug)]
    pub struct Bounded<S> {
        #[pin]
        items: Option<S>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<S, T, E> Stream for Bounded<S>
where
    S: Stream<Item = Result<T, E>>,
    E: From<RequestError>,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(items) = this.items.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        // What is ready goes out even in the last moment.
        if let Poll::Ready(item) = items.poll_next(cx) {
            return Poll::Ready(item);
        }
        let Some(sleep) = this.sleep.as_pin_mut() else { return Poll::Pending };
        ready!(poll_passed(sleep, cx));
        this.items.set(None);
        Poll::Ready(Some(Err(exceeded().into())))
    }
}

/// Ready from the very deadline on: the timer itself wakes up to a millisecond later, and tonic's could win.
pub(crate) fn poll_passed(sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if Instant::now() >= sleep.deadline() {
        return Poll::Ready(());
    }
    sleep.poll(cx)
}

pub(crate) fn exceeded() -> RequestError {
    RequestError::new(ErrorReason::DeadlineExceeded)
}
