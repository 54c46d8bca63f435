//! Whether several clients send work.

use std::time::Duration;

use tokio::time::Instant;

use crate::job::ClientId;

/// How long a client that sends nothing still counts.
const MEMORY: Duration = Duration::from_secs(10);

/// The last change from one client to another.
#[derive(Debug, Default)]
pub struct Contention {
    last: Option<(ClientId, Instant)>,
    until: Option<Instant>,
}

impl Contention {
    /// Records work of `client`.
    pub fn submitted(&mut self, now: Instant, client: ClientId) {
        if self.last.is_some_and(|(last, time)| last != client && now < time + MEMORY) {
            self.until = Some(now + MEMORY);
        }
        self.last = Some((client, now));
    }

    /// Returns whether several clients have sent work within the last ten seconds.
    #[must_use]
    pub fn is_contended(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clients_count_until_one_is_silent() {
        let start = Instant::now();
        let mut contention = Contention::default();
        let seconds = |seconds| start + Duration::from_secs(seconds);
        contention.submitted(seconds(0), ClientId(1));
        contention.submitted(seconds(1), ClientId(1));
        assert!(!contention.is_contended(seconds(1)));
        contention.submitted(seconds(2), ClientId(2));
        assert!(contention.is_contended(seconds(11)));
        assert!(!contention.is_contended(seconds(12)));
        contention.submitted(seconds(30), ClientId(1));
        assert!(!contention.is_contended(seconds(30)));
    }
}
