//! Outcomes in the order of their request: what is ready early waits for what comes before it.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use pin_project_lite::pin_project;

use crate::{errors::Refusal, frontend::Outcome};

pin_project! {
    /// A stream of all outcomes of a request, put in order. What it holds back is at most the request's own answers.
    #[derive(Debug)]
    pub struct InOrder<S> {
        #[pin]
        outcomes: S,
        early: HashMap<(u32, u32), VecDeque<Outcome>>,
        // Questions of each image.
        counts: Vec<u32>,
        next: (u32, u32),
    }
}

impl<S> InOrder<S> {
    /// Orders `outcomes`, one for each pair of a request whose images have so many questions each.
    pub fn new(outcomes: S, counts: Vec<u32>) -> Self {
        Self { outcomes, early: HashMap::new(), counts, next: (0, 0) }
    }
}

/// The pair after `pair`.
fn after((image, question): (u32, u32), counts: &[u32]) -> (u32, u32) {
    let count = counts.get(image as usize).copied().unwrap_or(0);
    if question + 1 < count { (image, question + 1) } else { (image + 1, 0) }
}

impl<S> Stream for InOrder<S>
where
    S: Stream<Item = Result<Outcome, Refusal>>,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(outcome) = this.early.get_mut(this.next).and_then(VecDeque::pop_front) {
                if outcome.is_last() {
                    this.early.remove(this.next);
                    *this.next = after(*this.next, this.counts);
                }
                return Poll::Ready(Some(Ok(outcome)));
            }
            match ready!(this.outcomes.as_mut().poll_next(cx)) {
                Some(Ok(outcome)) => {
                    let pair = (outcome.image_index, outcome.question_index);
                    this.early.entry(pair).or_default().push_back(outcome);
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
    use crate::{errors::Reason, every_pair, proto::CaptionPiece, reply::Reply};

    fn outcome((image_index, question_index): (u32, u32)) -> Outcome {
        Outcome { image_index, question_index, ready: None, reply: Err(Refusal::new(Reason::EngineFailed)) }
    }

    fn pairs(counts: &[u32]) -> Vec<(u32, u32)> {
        every_pair::pairs(counts).collect()
    }

    proptest! {
        #[test]
        fn whatever_order_outcomes_come_in_they_go_out_in_the_requests(
            (counts, shuffled) in proptest::collection::vec(1_u32..5, 1..6)
                .prop_flat_map(|counts| (Just(counts.clone()), Just(pairs(&counts)).prop_shuffle())),
        ) {
            let outcomes = stream::iter(shuffled.into_iter().map(|pair| Ok(outcome(pair))));
            let ordered: Vec<_> = block_on(InOrder::new(outcomes, counts.clone()).collect());
            let ordered: Vec<_> = ordered.into_iter()
                .map(|outcome| outcome.map(|outcome| (outcome.image_index, outcome.question_index)).unwrap())
                .collect();
            prop_assert_eq!(ordered, pairs(&counts));
        }
    }

    #[test]
    fn pieces_of_the_pair_whose_turn_it_is_are_not_held_back() {
        let piece = |question_index| Outcome {
            image_index: 0,
            question_index,
            ready: None,
            reply: Ok(Reply::Piece(CaptionPiece::default())),
        };
        let outcomes = [piece(1), piece(0), outcome((0, 1)), piece(0), outcome((0, 0))].map(Ok::<_, Refusal>);
        let mut ordered = InOrder::new(stream::iter(outcomes), vec![2]);
        let mut seen = Vec::new();
        while let Some(Ok(outcome)) = block_on(ordered.next()) {
            seen.push((outcome.question_index, outcome.is_last()));
        }
        assert_eq!(seen, [(0, false), (0, false), (0, true), (1, false), (1, true)]);
    }

    #[test]
    fn the_end_of_a_call_is_not_held_back() {
        let late = Refusal::new(Reason::DeadlineExceeded);
        let outcomes = stream::iter([Ok(outcome((0, 1))), Err(late.clone())]);
        let seen: Vec<_> = block_on(InOrder::new(outcomes, vec![2]).collect());
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].as_ref().unwrap_err(), &late);
    }
}
