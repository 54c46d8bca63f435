//! From the server's own time to that of the world, which spans are told in.
#![expect(
    clippy::disallowed_types,
    reason = "spans are told in the time of the world, whatever a test's clock says"
)]

use std::time::SystemTime;

use tokio::time::Instant;

/// What both clocks show at one moment. The world's may jump; times taken from here do not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    world: SystemTime,
    own: Instant,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self { world: SystemTime::now(), own: Instant::now() }
    }

    /// The time of the world at `instant`.
    pub(super) fn at(&self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.own) {
            Some(later) => self.world + later,
            None => self.world - self.own.duration_since(instant),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_lies_apart_lies_as_far_apart_in_the_world() {
        let before = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        let clock = Clock::now();
        let after = Instant::now() + Duration::from_secs(7);
        assert_eq!(clock.at(after).duration_since(clock.at(before)).unwrap(), Duration::from_secs(12));
    }
}
