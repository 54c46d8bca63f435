//! Graceful shutdown, within time limits.
//!
//! First, health reports `NOT_SERVING`. After the grace period the server accepts no more calls,
//! and finishes the calls in flight.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    config::sections::lifecycle::DrainSettings, lifecycle::health::Health, serve::exit::Exit,
    telemetry::metrics,
};

/// A running server, with the parts that its shutdown needs.
#[derive(Debug)]
pub struct RunningServer {
    /// Reports the server's health.
    pub health: Health,
    /// Stops the server when cancelled.
    ///
    /// The listeners then close, connections shut down gracefully, and calls in flight finish.
    pub stop: CancellationToken,
    /// Tracks the calls in flight.
    pub in_flight: TaskTracker,
    /// The task that serves all connections. It ends with the last connection.
    pub connections: JoinHandle<()>,
    /// The task of the operations endpoint, which serves until the process ends.
    pub operations: Option<AbortOnDropHandle<()>>,
}

impl RunningServer {
    /// Stops the server: waits `drain_grace_s`, then at most `drain_limit_s` for calls in flight.
    pub async fn drain(mut self, settings: &DrainSettings) -> Exit {
        self.health.set_accepting(false);
        tracing::info!(calls_in_flight = self.in_flight.len(), ?settings, "drain started");
        let grace = Duration::from_secs(settings.drain_grace_s);
        let limit = Duration::from_secs(settings.drain_limit_s);
        // Set in advance, because nobody scrapes a process that has ended.
        metrics::set_drain_deadline(grace.saturating_add(limit));
        tokio::time::sleep(grace).await;
        self.finish(limit).await
    }

    /// Accepts no more calls and waits at most `limit` for the calls in flight.
    pub async fn finish(&mut self, limit: Duration) -> Exit {
        self.health.end_watches();
        self.stop.cancel();
        self.in_flight.close();
        let ended = async {
            self.in_flight.wait().await;
            // The connections may still be sending the last responses.
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

    fn running(connections: impl Future<Output = ()> + Send + 'static) -> RunningServer {
        RunningServer {
            health: Health::default(),
            stop: CancellationToken::new(),
            in_flight: TaskTracker::new(),
            connections: tokio::spawn(connections),
            operations: None,
        }
    }

    const SETTINGS: DrainSettings = DrainSettings { drain_grace_s: 5, drain_limit_s: 30 };

    #[tokio::test(start_paused = true)]
    async fn drain_finishes_calls_in_flight_after_the_grace() {
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
    async fn drain_abandons_calls_at_the_limit() {
        let begin = tokio::time::Instant::now();
        let running = running(async {});
        let _never = running.in_flight.token();
        assert_eq!(running.drain(&SETTINGS).await, Exit::DrainLimit);
        assert_eq!(begin.elapsed(), Duration::from_secs(35));
    }

    #[tokio::test(start_paused = true)]
    async fn drain_with_an_idle_connection_ends_clean_at_the_limit() {
        assert_eq!(running(std::future::pending()).drain(&SETTINGS).await, Exit::Clean);
    }
}
