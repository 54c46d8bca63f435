//! Keys and certificates are read anew now and then, and at once on SIGHUP.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::time::{MissedTickBehavior, interval};

use crate::{auth::Authenticator, listener::Tls};

/// Reads the files of `authenticator` and `tls` anew every `period` and at each of `signals`, for ever. A file that
/// cannot be used is reported and changes nothing.
pub async fn keep_fresh(
    authenticator: Authenticator,
    tls: Option<Tls>,
    period: Duration,
    mut signals: impl Stream<Item = i32> + Unpin,
) -> ! {
    let mut ticks = interval(period.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and the files have just been read.
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(_) = signals.next() => tracing::info!("reading keys and certificates anew"),
        }
        if authenticator.has_file()
            && let Err(error) = authenticator.reload()
        {
            tracing::error!(%error, "the keys stay as they were");
        }
        if let Some(Err(error)) = tls.as_ref().map(Tls::reload) {
            tracing::error!(%error, "the certificates stay as they were");
        }
    }
}
