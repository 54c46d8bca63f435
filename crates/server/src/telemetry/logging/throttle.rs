//! Limits the rate of a log line, so that frequent events do not fill the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Counts events, and decides which of them are logged.
#[derive(Debug)]
pub struct LogThrottle {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_logged: Option<Instant>,
    unlogged: u64,
}

impl LogThrottle {
    /// Creates a throttle that allows one log line in each `period`.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self { period, state: Mutex::default() }
    }

    /// Counts an event.
    ///
    /// If it should be logged, returns the number of events since the last logged one, this event
    /// included.
    ///
    /// Later events are logged with the first event that arrives a period later.
    #[must_use]
    pub fn record(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unlogged += 1;
        let now = Instant::now();
        if state.last_logged.is_some_and(|logged| now.duration_since(logged) < self.period) {
            return None;
        }
        state.last_logged = Some(now);
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn flood_is_logged_once_per_period_with_its_count() {
        let throttle = LogThrottle::every(Duration::from_secs(1));
        assert_eq!(throttle.record(), Some(1));
        for _ in 0..999 {
            assert_eq!(throttle.record(), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.record(), Some(1000));
        assert_eq!(throttle.record(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn rare_events_are_all_logged() {
        let throttle = LogThrottle::every(Duration::from_secs(1));
        for _ in 0..3 {
            assert_eq!(throttle.record(), Some(1));
            tokio::time::advance(Duration::from_secs(2)).await;
        }
    }
}
