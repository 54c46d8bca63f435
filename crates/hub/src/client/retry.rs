//! Another attempt, after a pause, a bounded number of times.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::{error::HubError, sleeper::Pause};

/// Attempts in all before an error is final.
const MAX_ATTEMPTS: u32 = 6;

/// The pause after the first failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that the hub can ask for; beyond it an error is final.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: HubError,
    pub(crate) again: Again,
}

/// Whether another attempt may end better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Never,
    /// After the usual pause.
    Later,
    /// After the pause that the hub asks for.
    After(Duration),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self { error, again: Again::Never }
    }
}

/// Counts attempts and gives the pauses between them.
#[derive(Debug)]
pub(crate) struct Attempts {
    left: u32,
    next: Duration,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self { left: MAX_ATTEMPTS - 1, next: FIRST_PAUSE }
    }

    /// A single attempt.
    pub(crate) fn one() -> Self {
        Self { left: 0, next: FIRST_PAUSE }
    }

    /// Waits until the next attempt is due.
    ///
    /// # Errors
    /// That of `failure`, if it was the last.
    pub(crate) async fn pause_after(&mut self, failure: Failure, pause: &Pause) -> Result<(), HubError> {
        let Some(wait) = self.next(failure.again) else { return Err(failure.error) };
        tracing::warn!(error = %failure.error, seconds = wait.as_secs_f32(), "trying again");
        pause.wait(wait).await;
        Ok(())
    }

    fn next(&mut self, again: Again) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let usual = self.next;
        self.next = (usual * 2).min(MAX_PAUSE);
        match again {
            Again::Never => None,
            // Many servers that start at once shall not come back at once.
            Again::Later => Some(usual.mul_f64(rand::random_range(0.5..=1.0))),
            Again::After(wait) => (wait <= MAX_PAUSE).then_some(wait),
        }
    }
}

/// How long the hub asks to be left alone: `Retry-After`, in seconds or as a date, or else the `t` of `RateLimit`.
pub(crate) fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
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
        let mut attempts = Attempts::new();
        let pauses: Vec<_> = std::iter::from_fn(|| attempts.next(Again::Later)).collect();
        assert_eq!(pauses.len() as u32, MAX_ATTEMPTS - 1);
        for (index, pause) in pauses.iter().enumerate() {
            let longest = FIRST_PAUSE * 2_u32.pow(index as u32);
            assert!(*pause >= longest / 2 && *pause <= longest, "{pause:?}");
        }
    }

    #[test]
    fn the_hub_is_waited_for_as_it_asks_within_a_limit() {
        assert_eq!(Attempts::new().next(Again::After(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(Attempts::new().next(Again::After(Duration::from_secs(3600))), None);
        assert_eq!(Attempts::new().next(Again::Never), None);
        assert_eq!(Attempts::one().next(Again::Later), None);
    }

    #[test]
    fn pauses_are_asked_for_in_three_ways() {
        let asked = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (reqwest::header::HeaderName::from_static(name), value.parse().unwrap())
            });
            asked_pause(&headers.collect())
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
