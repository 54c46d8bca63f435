//! A stream that another event ends with an error.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use pin_project_lite::pin_project;

use crate::error::RequestError;

pin_project! {
    /// The items of a stream, until a future returns the error that ends it.
    #[derive(Debug)]
    pub struct UntilError<S, F> {
        #[pin]
        items: Option<S>,
        #[pin]
        end: Option<F>,
    }
}

impl<S, F> UntilError<S, F> {
    /// Returns `items` until `end` is ready. Then the stream drops `items` and ends with the error.
    pub fn new(items: S, end: Option<F>) -> Self {
        Self { items: Some(items), end }
    }
}

impl<S, F, T, E> Stream for UntilError<S, F>
where
    S: Stream<Item = Result<T, E>>,
    F: Future<Output = RequestError>,
    E: From<RequestError>,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(items) = this.items.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        // Items that are ready when the stream ends are still returned.
        if let Poll::Ready(item) = items.poll_next(cx) {
            return Poll::Ready(item);
        }
        let Some(end) = this.end.as_pin_mut() else { return Poll::Pending };
        let error = ready!(end.poll(cx));
        this.items.set(None);
        Poll::Ready(Some(Err(error.into())))
    }
}
