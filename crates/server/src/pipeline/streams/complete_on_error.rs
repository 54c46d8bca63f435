//! Turns the early end of a call into one error for each unfinished item.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use pin_project_lite::pin_project;

use crate::{error::RequestError, pipeline::item_result::ItemResult};

pin_project! {
    /// A stream with a last result for each item and without errors of the call.
    #[derive(Debug)]
    pub struct CompleteOnError<S> {
        #[pin]
        results: S,
        unfinished: BTreeSet<(u32, u32)>,
        error: Option<RequestError>,
    }
}

/// Returns the positions of all items of a request, given the number of texts of each image.
pub fn positions(counts: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    (0..).zip(counts).flat_map(|(image, count)| (0..*count).map(move |text| (image, text)))
}

impl<S> CompleteOnError<S> {
    /// Completes `results`, given the number of texts of each image.
    pub fn new(results: S, counts: &[u32]) -> Self {
        Self { results, unfinished: positions(counts).collect(), error: None }
    }
}

impl<S> Stream for CompleteOnError<S>
where
    S: Stream<Item = Result<ItemResult, RequestError>>,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if this.error.is_none() {
            match ready!(this.results.poll_next(cx)) {
                Some(Ok(result)) => {
                    if result.is_last() {
                        this.unfinished.remove(&(result.image_index, result.text_index));
                    }
                    return Poll::Ready(Some(Ok(result)));
                }
                None => return Poll::Ready(None),
                Some(Err(error)) => *this.error = Some(error),
            }
        }
        let error = this.error.as_ref();
        let result = this.unfinished.pop_first().zip(error).map(|((image_index, text_index), error)| {
            Ok(ItemResult { image_index, text_index, ready: None, reply: Err(error.clone()) })
        });
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, executor::block_on, stream};

    use super::*;
    use crate::error::ErrorReason;

    #[test]
    fn unfinished_items_get_the_error_of_the_call() {
        let failed = |reason| Err(RequestError::new(reason));
        let first =
            ItemResult { image_index: 1, text_index: 0, ready: None, reply: failed(ErrorReason::ImageEmpty) };
        let late = RequestError::new(ErrorReason::DeadlineExceeded);
        let results = stream::iter([Ok(first), Err(late)]).chain(stream::pending());
        let seen: Vec<_> = block_on(CompleteOnError::new(results, &[2, 1]).map(Result::unwrap).collect());
        let seen: Vec<_> = seen
            .iter()
            .map(|result| {
                let reason = result.reply.as_ref().unwrap_err().reason();
                (result.image_index, result.text_index, reason)
            })
            .collect();
        let late = ErrorReason::DeadlineExceeded;
        assert_eq!(seen, [(1, 0, ErrorReason::ImageEmpty), (0, 0, late), (0, 1, late)]);
    }
}
