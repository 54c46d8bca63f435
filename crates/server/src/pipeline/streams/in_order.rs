//! Puts results in the order of their request. Results that are early wait for those before them.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use pin_project_lite::pin_project;

use crate::{error::RequestError, pipeline::item_result::ItemResult};

pin_project! {
    /// A stream of the results of a request in its order. It buffers at most the results of that
    /// request.
    #[derive(Debug)]
    pub struct InOrder<S> {
        #[pin]
        results: S,
        early: HashMap<(u32, u32), VecDeque<ItemResult>>,
        // The number of texts of each image.
        counts: Vec<u32>,
        next: (u32, u32),
    }
}

impl<S> InOrder<S> {
    /// Orders `results`, given the number of texts of each image.
    pub fn new(results: S, counts: Vec<u32>) -> Self {
        Self { results, early: HashMap::new(), counts, next: (0, 0) }
    }
}

/// Returns the position next_position `(image, text)`.
fn next_position((image, text): (u32, u32), counts: &[u32]) -> (u32, u32) {
    let count = counts.get(image as usize).copied().unwrap_or(0);
    if text + 1 < count { (image, text + 1) } else { (image + 1, 0) }
}

impl<S> Stream for InOrder<S>
where
    S: Stream<Item = Result<ItemResult, RequestError>>,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(result) = this.early.get_mut(this.next).and_then(VecDeque::pop_front) {
                if result.is_last() {
                    this.early.remove(this.next);
                    *this.next = next_position(*this.next, this.counts);
                }
                return Poll::Ready(Some(Ok(result)));
            }
            match ready!(this.results.as_mut().poll_next(cx)) {
                Some(Ok(result)) => {
                    let position = (result.image_index, result.text_index);
                    this.early.entry(position).or_default().push_back(result);
                }
                end => return Poll::Ready(end),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, executor::block_on, stream};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        error::ErrorReason,
        pipeline::{
            reply::{CaptionChunk, Reply},
            streams::complete_on_error,
        },
    };

    fn result((image_index, text_index): (u32, u32)) -> ItemResult {
        ItemResult {
            image_index,
            text_index,
            ready: None,
            reply: Err(RequestError::new(ErrorReason::EngineFailed)),
        }
    }

    fn positions(counts: &[u32]) -> Vec<(u32, u32)> {
        complete_on_error::positions(counts).collect()
    }

    proptest! {
        #[test]
        fn results_leave_in_request_order(
            (counts, shuffled) in proptest::collection::vec(1_u32..5, 1..6)
                .prop_flat_map(|counts| (Just(counts.clone()), Just(positions(&counts)).prop_shuffle())),
        ) {
            let results = stream::iter(shuffled.into_iter().map(|position| Ok(result(position))));
            let ordered: Vec<_> = block_on(InOrder::new(results, counts.clone()).collect());
            let ordered: Vec<_> = ordered.into_iter()
                .map(|result| result.map(|result| (result.image_index, result.text_index)).unwrap())
                .collect();
            prop_assert_eq!(ordered, positions(&counts));
        }
    }

    #[test]
    fn chunks_of_the_next_item_are_not_buffered() {
        let chunk = |text_index| ItemResult {
            image_index: 0,
            text_index,
            ready: None,
            reply: Ok(Reply::Chunk(CaptionChunk::default())),
        };
        let results =
            [chunk(1), chunk(0), result((0, 1)), chunk(0), result((0, 0))].map(Ok::<_, RequestError>);
        let mut ordered = InOrder::new(stream::iter(results), vec![2]);
        let mut seen = Vec::new();
        while let Some(Ok(result)) = block_on(ordered.next()) {
            seen.push((result.text_index, result.is_last()));
        }
        assert_eq!(seen, [(0, false), (0, false), (0, true), (1, false), (1, true)]);
    }

    #[test]
    fn error_of_the_call_is_not_buffered() {
        let late = RequestError::new(ErrorReason::DeadlineExceeded);
        let results = stream::iter([Ok(result((0, 1))), Err(late.clone())]);
        let seen: Vec<_> = block_on(InOrder::new(results, vec![2]).collect());
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].as_ref().unwrap_err(), &late);
    }
}
