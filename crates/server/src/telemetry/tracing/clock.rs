//! Converts instants of the server to wall-clock times, which spans use.
#![expect(clippy::disallowed_types, reason = "spans use wall-clock times, also in tests with a paused clock")]

use std::time::SystemTime;

use tokio::time::Instant;

/// One moment on the wall clock and on the monotonic clock.
///
/// The wall clock may jump. Times computed from this moment do not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: SystemTime,
    monotonic: Instant,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    /// Returns the wall-clock time at `instant`.
    pub(crate) fn at(&self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.monotonic) {
            Some(later) => self.wall + later,
            None => self.wall - self.monotonic.duration_since(instant),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clock_preserves_the_distance_between_instants() {
        let before = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        let clock = Clock::now();
        let after = Instant::now() + Duration::from_secs(7);
        assert_eq!(clock.at(after).duration_since(clock.at(before)).unwrap(), Duration::from_secs(12));
    }
}
