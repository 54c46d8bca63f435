//! Another attempt, after a pause, a bounded number of times.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::{error::HubError, sleeper::Sleeper};

/// Attempts in all before an error is final.
const MAX_ATTEMPTS: u32 = 6;

/// The pause after the first failure; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// The longest pause that the hub can ask for; beyond it an error is final.
const MAX_DELAY: Duration = Duration::from_secs(300);

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct RequestFailure {
    pub(crate) error: HubError,
    pub(crate) retry: Retry,
}

/// Whether another attempt may end better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Never,
    /// After the usual pause.
    AfterBackoff,
    /// After the pause that the hub asks for.
    After(Duration),
}

impl From<HubError> for RequestFailure {
    fn from(error: HubError) -> Self {
        Self { error, retry: Retry::Never }
    }
}

/// Counts attempts and gives the pauses between them.
#[derive(Debug)]
pub(crate) struct Backoff {
    retries_left: u32,
    delay: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { retries_left: MAX_ATTEMPTS - 1, delay: FIRST_DELAY }
    }

    /// A single attempt.
    pub(crate) fn single_attempt() -> Self {
        Self { retries_left: 0, delay: FIRST_DELAY }
    }

    /// Waits until the next attempt is due.
    ///
    /// # Errors
    /// That of `failure`, if it was the last.
    pub(crate) async fn wait_after(
        &mut self,
        failure: RequestFailure,
        sleeper: &Sleeper,
    ) -> Result<(), HubError> {
        let Some(wait) = self.next_delay(failure.retry) else { return Err(failure.error) };
        tracing::warn!(error = %failure.error, seconds = wait.as_secs_f32(), "trying again");
        sleeper.sleep(wait).await;
        Ok(())
    }

    fn next_delay(&mut self, retry: Retry) -> Option<Duration> {
        self.retries_left = self.retries_left.checked_sub(1)?;
        let usual = self.delay;
        self.delay = (usual * 2).min(MAX_DELAY);
        match retry {
            Retry::Never => None,
            // Many servers that start at once shall not come back at once.
            Retry::AfterBackoff => Some(usual.mul_f64(rand::random_range(0.5..=1.0))),
            Retry::After(wait) => (wait <= MAX_DELAY).then_some(wait),
        }
    }
}

/// How long the hub asks to be left alone: `Retry-After`, in seconds or as a date, or else the `t` of `RateLimit`.
pub(crate) fn requested_delay(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(value) = text(RETRY_AFTER.as_str()) {
        if let Ok(seconds) = value.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        // By the clock of whoever wrote the date.
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
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.next_delay(Retry::AfterBackoff)).collect();
        assert_eq!(pauses.len() as u32, MAX_ATTEMPTS - 1);
        for (index, pause) in pauses.iter().enumerate() {
            let longest = FIRST_DELAY * 2_u32.pow(index as u32);
            assert!(*pause >= longest / 2 && *pause <= longest, "{pause:?}");
        }
    }

    #[test]
    fn the_hub_is_waited_for_as_it_asks_within_a_limit() {
        assert_eq!(
            Backoff::new().next_delay(Retry::After(Duration::from_secs(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(Backoff::new().next_delay(Retry::After(Duration::from_secs(3600))), None);
        assert_eq!(Backoff::new().next_delay(Retry::Never), None);
        assert_eq!(Backoff::single_attempt().next_delay(Retry::AfterBackoff), None);
    }

    #[test]
    fn pauses_are_asked_for_in_three_ways() {
        let asked = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (reqwest::header::HeaderName::from_static(name), value.parse().unwrap())
            });
            requested_delay(&headers.collect())
        };
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(asked(&[("retry-after", "30")]), seconds(30));
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(asked(&[("retry-after", "Wed, 21 Oct 2026 07:29:00 GMT"), date]), seconds(60));
        assert_eq!(asked(&[("retry-after", "Wed, 21 Oct 2026 07:29:00 GMT")]), None);
        assert_eq!(asked(&[("ratelimit", "\"api\";r=0;t=55")]), seconds(55));
        assert_eq!(asked(&[]), None);
    }
}
