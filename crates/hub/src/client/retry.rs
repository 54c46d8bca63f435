//! Retries failed requests with exponential backoff.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::{error::HubError, sleeper::Sleeper};

/// Largest number of attempts, including the first.
const MAX_ATTEMPTS: u32 = 6;

/// Delay after the first failure. It doubles with each failure.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// Largest delay. If the hub requests a longer one, the error is final.
const MAX_DELAY: Duration = Duration::from_secs(300);

/// A failed request.
#[derive(Debug)]
pub(crate) struct RequestFailure {
    pub(crate) error: HubError,
    pub(crate) retry: Retry,
}

/// Whether and when to retry a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Never,
    /// After the delay of the backoff.
    AfterBackoff,
    /// After the delay that the hub requests.
    After(Duration),
}

impl From<HubError> for RequestFailure {
    fn from(error: HubError) -> Self {
        Self { error, retry: Retry::Never }
    }
}

/// The number of remaining retries and the next delay.
#[derive(Debug)]
pub(crate) struct Backoff {
    retries_left: u32,
    delay: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { retries_left: MAX_ATTEMPTS - 1, delay: FIRST_DELAY }
    }

    /// Allows no retries.
    pub(crate) fn single_attempt() -> Self {
        Self { retries_left: 0, delay: FIRST_DELAY }
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// The error of `failure`, if it is final.
    pub(crate) async fn wait_after(
        &mut self,
        failure: RequestFailure,
        sleeper: &Sleeper,
    ) -> Result<(), HubError> {
        let Some(wait) = self.next_delay(failure.retry) else { return Err(failure.error) };
        tracing::warn!(error = %failure.error, seconds = wait.as_secs_f32(), "request failed, retrying");
        sleeper.sleep(wait).await;
        Ok(())
    }

    fn next_delay(&mut self, retry: Retry) -> Option<Duration> {
        self.retries_left = self.retries_left.checked_sub(1)?;
        let delay = self.delay;
        self.delay = (delay * 2).min(MAX_DELAY);
        match retry {
            Retry::Never => None,
            // Jitter spreads the retries of servers that start at the same time.
            Retry::AfterBackoff => Some(delay.mul_f64(rand::random_range(0.5..=1.0))),
            Retry::After(wait) => (wait <= MAX_DELAY).then_some(wait),
        }
    }
}

/// Returns the delay that the hub requests.
///
/// It is in `Retry-After`, in seconds or as a date, or else in the `t` of `RateLimit`.
pub(crate) fn requested_delay(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(value) = text(RETRY_AFTER.as_str()) {
        if let Ok(seconds) = value.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        // `Date` and the date in `Retry-After` are from the same clock.
        let (until, now) =
            (httpdate::parse_http_date(value), httpdate::parse_http_date(text(DATE.as_str())?));
        return until.ok()?.duration_since(now.ok()?).ok();
    }
    let seconds = text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_end() {
        let mut backoff = Backoff::new();
        let delays: Vec<_> = std::iter::from_fn(|| backoff.next_delay(Retry::AfterBackoff)).collect();
        assert_eq!(delays.len() as u32, MAX_ATTEMPTS - 1);
        for (index, delay) in delays.iter().enumerate() {
            let longest = FIRST_DELAY * 2_u32.pow(index as u32);
            assert!(*delay >= longest / 2 && *delay <= longest, "{delay:?}");
        }
    }

    #[test]
    fn requested_delay_is_used_up_to_the_limit() {
        assert_eq!(
            Backoff::new().next_delay(Retry::After(Duration::from_secs(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(Backoff::new().next_delay(Retry::After(Duration::from_secs(3600))), None);
        assert_eq!(Backoff::new().next_delay(Retry::Never), None);
        assert_eq!(Backoff::single_attempt().next_delay(Retry::AfterBackoff), None);
    }

    #[test]
    fn requested_delay_has_three_formats() {
        let parse = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (reqwest::header::HeaderName::from_static(name), value.parse().unwrap())
            });
            requested_delay(&headers.collect())
        };
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(parse(&[("retry-after", "30")]), seconds(30));
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(parse(&[("retry-after", "Wed, 21 Oct 2026 07:29:00 GMT"), date]), seconds(60));
        assert_eq!(parse(&[("retry-after", "Wed, 21 Oct 2026 07:29:00 GMT")]), None);
        assert_eq!(parse(&[("ratelimit", "\"api\";r=0;t=55")]), seconds(55));
        assert_eq!(parse(&[]), None);
    }
}
