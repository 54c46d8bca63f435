//! Reloads API keys and certificates periodically, and on SIGHUP.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::time::{MissedTickBehavior, interval};

use crate::{auth::Authenticator, listener::Tls};

/// Reloads the files of `authenticator` and `tls` in every `period` and on each of `signals`.
///
/// If a file cannot be used, the failure is logged and the current keys or certificates remain.
pub async fn reload_credentials(
    authenticator: Authenticator,
    tls: Option<Tls>,
    period: Duration,
    mut signals: impl Stream<Item = i32> + Unpin,
) -> ! {
    let mut ticks = interval(period.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate, and the files have just been read.
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(signal) = signals.next() => tracing::info!(signal, "credentials reload requested"),
        }
        if authenticator.has_file()
            && let Err(error) = authenticator.reload()
        {
            tracing::error!(%error, "api key reload failed; keeping current keys");
        }
        if let Some(Err(error)) = tls.as_ref().map(Tls::reload) {
            tracing::error!(%error, "certificate reload failed; keeping current certificates");
        }
    }
}
