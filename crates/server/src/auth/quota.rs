//! The rate limit of an API key: questions per second, with a burst.

use std::{num::NonZeroU32, sync::Arc};

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
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
    limiter: Limiter<Taking>,
    /// A limiter of the same state that takes nothing.
    preview: Limiter<Preview>,
}

type Limiter<State> = RateLimiter<NotKeyed, State, TokioClock, NoOpMiddleware<Nanos>>;

impl Quota {
    /// Creates a quota whose whole burst is available.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let quota = governor::Quota::per_second(rate.questions_per_s).allow_burst(rate.burst);
        let state = Arc::new(InMemoryState::default());
        let clock = TokioClock(Instant::now());
        let limiter = RateLimiter::new(quota, Taking(Arc::clone(&state)), clock.clone());
        Self { rate, limiter, preview: RateLimiter::new(quota, Preview(state), clock) }
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
        self.check(&self.limiter, questions)
    }

    /// Checks that a question could be taken at this time. It takes none.
    ///
    /// # Errors
    /// A [`RequestError`] `RATE_LIMITED` for the whole request.
    pub fn check_any(&self) -> Result<(), RequestError> {
        self.check(&self.preview, 1)
    }

    fn check<State>(&self, limiter: &Limiter<State>, questions: usize) -> Result<(), RequestError>
    where
        State: StateStore<Key = NotKeyed>,
    {
        let Rate { questions_per_s, burst } = self.rate;
        let count = u32::try_from(questions).unwrap_or(u32::MAX);
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let value = format!("{questions} question{}", if questions == 1 { "" } else { "s" });
        match limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(RequestError::new(ErrorReason::RateLimited)
                .value(value)
                .limit(format!("{questions_per_s} questions per second"))
                .retry_after(not_until.wait_time_from(limiter.clock().now()))),
            Err(_) => Err(RequestError::new(ErrorReason::BurstTooLarge)
                .value(value)
                .limit(format!("{burst} questions at once"))),
        }
    }
}

/// The state of a rate limit.
#[derive(Debug)]
struct Taking(Arc<InMemoryState>);

impl StateStore for Taking {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, decide)
    }
}

/// The state of a rate limit, which remains as it is.
#[derive(Debug)]
struct Preview(Arc<InMemoryState>);

impl StateStore for Preview {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // An error changes nothing, and returns the current value.
        let current = self.0.measure_and_replace(key, Err::<((), Nanos), _>);
        decide(current.err().flatten()).map(|(outcome, _)| outcome)
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
    async fn check_of_the_quota_takes_nothing() {
        let quota = quota(10, 20);
        for _ in 0..30 {
            assert_eq!(quota.check_any(), Ok(()));
        }
        assert_eq!(quota.take(20), Ok(()));
        assert_eq!(quota.check_any().unwrap_err().reason(), ErrorReason::RateLimited);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(quota.check_any(), Ok(()));
        assert_eq!(quota.take(1), Ok(()));
        assert!(quota.check_any().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn request_above_the_burst_is_rejected_and_takes_nothing() {
        let quota = quota(10, 20);
        assert_eq!(quota.take(21).unwrap_err().reason(), ErrorReason::BurstTooLarge);
        assert_eq!(quota.take(20), Ok(()));
        assert_eq!(quota.take(0), Ok(()));
    }
}
