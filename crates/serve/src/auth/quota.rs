//! How much a key may ask: questions a second, with a burst.

use std::num::NonZeroU32;

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use crate::errors::{Reason, Refusal};

/// What a key may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Questions a second, in the long run.
    pub questions_per_s: NonZeroU32,
    /// Questions at once.
    pub burst: NonZeroU32,
}

/// A key's account: what it may still ask now, by the generic cell rate algorithm.
#[derive(Debug)]
pub struct Quota {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
}

impl Quota {
    /// A full account.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let quota = governor::Quota::per_second(rate.questions_per_s).allow_burst(rate.burst);
        Self { rate, limiter: RateLimiter::direct_with_clock(quota, TokioClock(Instant::now())) }
    }

    /// The rate at which it fills.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes `questions` at once, or none of them.
    ///
    /// # Errors
    /// A [`Refusal`] of the request: with the time after which there will be as many, or for good if there never will.
    pub fn take(&self, questions: usize) -> Result<(), Refusal> {
        let Rate { questions_per_s, burst } = self.rate;
        let count = u32::try_from(questions).unwrap_or(u32::MAX);
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let value = format!("{questions} questions");
        match self.limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(Refusal::new(Reason::RateLimited)
                .value(value)
                .limit(format!("{questions_per_s} questions a second"))
                .retry_after(not_until.wait_time_from(TokioClock::now(self.limiter.clock())))),
            Err(_) => Err(Refusal::new(Reason::BurstTooLarge)
                .value(value)
                .limit(format!("{burst} questions at once"))),
        }
    }
}

/// The time since some moment, by tokio's clock.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::StatusExt as _;

    use super::*;

    fn quota(questions_per_s: u32, burst: u32) -> Quota {
        let positive = |number| NonZeroU32::new(number).unwrap();
        Quota::new(Rate { questions_per_s: positive(questions_per_s), burst: positive(burst) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_then_the_rate_holds() {
        let quota = quota(10, 20);
        assert_eq!(quota.take(15), Ok(()));
        assert_eq!(quota.take(5), Ok(()));
        let refusal = quota.take(4).unwrap_err();
        assert_eq!(refusal.reason(), Reason::RateLimited);
        let wait = refusal.to_status().get_details_retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(wait, Duration::from_millis(400));
        tokio::time::advance(wait).await;
        assert_eq!(quota.take(4), Ok(()));
        assert!(quota.take(1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_burst_is_refused_for_good_and_costs_nothing() {
        let quota = quota(10, 20);
        assert_eq!(quota.take(21).unwrap_err().reason(), Reason::BurstTooLarge);
        assert_eq!(quota.take(20), Ok(()));
        assert_eq!(quota.take(0), Ok(()));
    }
}
