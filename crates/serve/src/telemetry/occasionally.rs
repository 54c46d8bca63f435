//! Something that may happen very often, told of now and then: a flood of it must not fill a disk with log lines.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Counts what happens, and says when it is time to tell of it.
#[derive(Debug)]
pub struct Occasionally {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Occasionally {
    /// Tells once a `period` at most.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self { period, state: Mutex::default() }
    }

    /// It has happened. If it is time to tell of it: how often it has happened since it was last told of, this time
    /// included. What happens after that is told of by the first time that comes a period later.
    #[must_use]
    pub fn happened(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        let now = Instant::now();
        if state.told.is_some_and(|told| now.duration_since(told) < self.period) {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_of_once_a_period_with_its_number() {
        let refused = Occasionally::every(Duration::from_secs(1));
        assert_eq!(refused.happened(), Some(1));
        for _ in 0..999 {
            assert_eq!(refused.happened(), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(refused.happened(), Some(1000));
        assert_eq!(refused.happened(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_rarely_is_told_of_every_time() {
        let refused = Occasionally::every(Duration::from_secs(1));
        for _ in 0..3 {
            assert_eq!(refused.happened(), Some(1));
            tokio::time::advance(Duration::from_secs(2)).await;
        }
    }
}
