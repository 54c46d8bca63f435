//! An outcome for every pair of a request, also when the call ends early: then each pair that is left is refused for the
//! same reason.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use pin_project_lite::pin_project;

use crate::{errors::Refusal, frontend::Outcome};

pin_project! {
    /// A stream of outcomes that has one for each pair and no error.
    #[derive(Debug)]
    pub struct EveryPair<S> {
        #[pin]
        outcomes: S,
        left: BTreeSet<(u32, u32)>,
        ended: Option<Refusal>,
    }
}

/// All pairs of a request whose images have so many questions each.
pub fn pairs(counts: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    (0..).zip(counts).flat_map(|(image, count)| (0..*count).map(move |question| (image, question)))
}

impl<S> EveryPair<S> {
    /// Completes `outcomes`, those of a request whose images have so many questions each.
    pub fn new(outcomes: S, counts: &[u32]) -> Self {
        Self { outcomes, left: pairs(counts).collect(), ended: None }
    }
}

impl<S> Stream for EveryPair<S>
where
    S: Stream<Item = Result<Outcome, Refusal>>,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if this.ended.is_none() {
            match ready!(this.outcomes.poll_next(cx)) {
                Some(Ok(outcome)) => {
                    if outcome.is_last() {
                        this.left.remove(&(outcome.image_index, outcome.question_index));
                    }
                    return Poll::Ready(Some(Ok(outcome)));
                }
                None => return Poll::Ready(None),
                Some(Err(refusal)) => *this.ended = Some(refusal),
            }
        }
        let refusal = this.ended.as_ref();
        let outcome = this.left.pop_first().zip(refusal).map(|((image_index, question_index), refusal)| {
            Ok(Outcome { image_index, question_index, ready: None, reply: Err(refusal.clone()) })
        });
        Poll::Ready(outcome)
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, executor::block_on, stream};

    use super::*;
    use crate::errors::Reason;

    #[test]
    fn pairs_without_an_outcome_get_the_reason_for_which_the_call_ended() {
        let refused = |reason| Err(Refusal::new(reason));
        let first =
            Outcome { image_index: 1, question_index: 0, ready: None, reply: refused(Reason::ImageEmpty) };
        let late = Refusal::new(Reason::DeadlineExceeded);
        let outcomes = stream::iter([Ok(first), Err(late)]).chain(stream::pending());
        let seen: Vec<_> = block_on(EveryPair::new(outcomes, &[2, 1]).map(Result::unwrap).collect());
        let seen: Vec<_> = seen
            .iter()
            .map(|outcome| {
                let reason = outcome.reply.as_ref().unwrap_err().reason();
                (outcome.image_index, outcome.question_index, reason)
            })
            .collect();
        let late = Reason::DeadlineExceeded;
        assert_eq!(seen, [(1, 0, Reason::ImageEmpty), (0, 0, late), (0, 1, late)]);
    }
}
