//! The rate limit of an API key: questions per second, with a burst.

use std::num::NonZeroU32;

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use crate::error::{ErrorReason, RequestError};

/// The configured rate of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Questions per second in the long run.
    pub questions_per_s: NonZeroU32,
    /// Questions that may arrive at once.
    pub burst: NonZeroU32,
}

/// The state of a key's rate limit, by the generic cell rate algorithm.
#[derive(Debug)]
pub struct Quota {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
}

impl Quota {
    /// Creates a quota whose whole burst is available.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let quota = governor::Quota::per_second(rate.questions_per_s).allow_burst(rate.burst);
        Self { rate, limiter: RateLimiter::direct_with_clock(quota, TokioClock(Instant::now())) }
    }

    /// Returns the configured rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes all of `questions`, or none of them.
    ///
    /// # Errors
    /// A [`RequestError`] for the whole request. It is `RATE_LIMITED`, with the time after which
    /// the request can succeed, or `BURST_TOO_LARGE` if the request can never succeed.
    pub fn take(&self, questions: usize) -> Result<(), RequestError> {
        let Rate { questions_per_s, burst } = self.rate;
        let count = u32::try_from(questions).unwrap_or(u32::MAX);
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let value = format!("{questions} questions");
        match self.limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(RequestError::new(ErrorReason::RateLimited)
                .value(value)
                .limit(format!("{questions_per_s} questions per second"))
                .retry_after(not_until.wait_time_from(TokioClock::now(self.limiter.clock())))),
            Err(_) => Err(RequestError::new(ErrorReason::BurstTooLarge)
                .value(value)
                .limit(format!("{burst} questions at once"))),
        }
    }
}

/// Tokio's clock, relative to the instant that it holds.
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
    async fn quota_allows_the_burst_then_the_rate() {
        let quota = quota(10, 20);
        assert_eq!(quota.take(15), Ok(()));
        assert_eq!(quota.take(5), Ok(()));
        let error = quota.take(4).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::RateLimited);
        let wait = error.to_status().get_details_retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(wait, Duration::from_millis(400));
        tokio::time::advance(wait).await;
        assert_eq!(quota.take(4), Ok(()));
        assert!(quota.take(1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn request_above_the_burst_is_rejected_and_takes_nothing() {
        let quota = quota(10, 20);
        assert_eq!(quota.take(21).unwrap_err().reason(), ErrorReason::BurstTooLarge);
        assert_eq!(quota.take(20), Ok(()));
        assert_eq!(quota.take(0), Ok(()));
    }
}
