//! How a server stops: health says NOT_SERVING first, then no more calls are taken, those in flight are answered, and
//! all of it is bounded.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{exit::Exit, health::Health, monitor, settings::DrainSettings};

/// A running server, as far as stopping it goes.
#[derive(Debug)]
pub struct Running {
    /// Tells the world.
    pub health: Health,
    /// Cancelled: the listener closes, connections are told to go away, and streams in flight run to their ends.
    pub stop: CancellationToken,
    /// Calls in flight.
    pub in_flight: TaskTracker,
    /// Ends when all connections have.
    pub connections: JoinHandle<()>,
    /// Answers those who watch until the very end.
    pub monitor: Option<AbortOnDropHandle<()>>,
}

impl Running {
    /// Stops the server: `drain_grace_s` of lame duck, then at most `drain_limit_s` for what is in flight.
    pub async fn drain(mut self, settings: &DrainSettings) -> Exit {
        self.health.report(false).await;
        tracing::info!(calls_in_flight = self.in_flight.len(), ?settings, "draining");
        let grace = Duration::from_secs(settings.drain_grace_s);
        let limit = Duration::from_secs(settings.drain_limit_s);
        // Told ahead: nobody asks a process that has ended what it left undone.
        monitor::drain_ends_within(grace.saturating_add(limit));
        tokio::time::sleep(grace).await;
        self.finish(limit).await
    }

    /// Takes no more calls and waits for those in flight, at most `limit`.
    pub async fn finish(&mut self, limit: Duration) -> Exit {
        self.health.end_watches().await;
        self.stop.cancel();
        self.in_flight.close();
        let ended = async {
            self.in_flight.wait().await;
            // The last answers are still on their way out of the connections.
            (&mut self.connections).await
        };
        match tokio::time::timeout(limit, ended).await {
            Err(_) if !self.in_flight.is_empty() => {
                tracing::warn!(calls_abandoned = self.in_flight.len(), "drain limit reached");
                Exit::DrainLimit
            }
            _ => Exit::Clean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(connections: impl Future<Output = ()> + Send + 'static) -> Running {
        Running {
            health: Health::default(),
            stop: CancellationToken::new(),
            in_flight: TaskTracker::new(),
            connections: tokio::spawn(connections),
            monitor: None,
        }
    }

    const SETTINGS: DrainSettings = DrainSettings { drain_grace_s: 5, drain_limit_s: 30 };

    #[tokio::test(start_paused = true)]
    async fn a_call_in_flight_is_waited_for_and_the_grace_comes_first() {
        let begin = tokio::time::Instant::now();
        let running = running(async {});
        let (token, stop) = (running.in_flight.token(), running.stop.clone());
        let call = tokio::spawn(async move {
            stop.cancelled().await;
            assert_eq!(begin.elapsed(), Duration::from_secs(5));
            tokio::time::sleep(Duration::from_secs(20)).await;
            drop(token);
        });
        assert_eq!(running.drain(&SETTINGS).await, Exit::Clean);
        assert_eq!(begin.elapsed(), Duration::from_secs(25));
        call.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_does_not_end_is_abandoned_at_the_limit() {
        let begin = tokio::time::Instant::now();
        let running = running(async {});
        let _never = running.in_flight.token();
        assert_eq!(running.drain(&SETTINGS).await, Exit::DrainLimit);
        assert_eq!(begin.elapsed(), Duration::from_secs(35));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_left_open_without_a_call_costs_the_limit_but_no_answer() {
        assert_eq!(running(std::future::pending()).drain(&SETTINGS).await, Exit::Clean);
    }
}
