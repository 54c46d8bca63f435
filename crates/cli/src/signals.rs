//! The signals of the process as streams.
//!
//! The first SIGTERM or SIGINT drains the server or stops the run, and the second ends it. SIGHUP
//! reloads files.

use std::{future::pending, io};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

/// Returns the numbers of the stop signals that the process receives from now on.
///
/// The signals no longer end the process.
///
/// # Errors
/// The operating system installs no handler.
pub(crate) fn stop_signals() -> io::Result<impl Stream<Item = i32> + Unpin> {
    Ok(stream::select(
        Box::pin(numbers(signal(SignalKind::terminate())?, SignalKind::terminate())),
        Box::pin(numbers(signal(SignalKind::interrupt())?, SignalKind::interrupt())),
    ))
}

/// The stop signals of a run. The first one stops it, and the second one ends the process.
#[derive(Debug)]
pub(crate) struct StopSignal {
    first: watch::Receiver<Option<i32>>,
    task: JoinHandle<()>,
}

impl StopSignal {
    /// Waits for signals from now on.
    ///
    /// # Errors
    /// The operating system installs no handler.
    pub(crate) fn watch() -> io::Result<Self> {
        let mut signals = stop_signals()?;
        let (sender, first) = watch::channel(None);
        let task = tokio::spawn(async move {
            if let Some(number) = signals.next().await {
                sender.send_replace(Some(number));
            }
            // The run can wait for a file or a server.
            if let Some(number) = signals.next().await {
                signal_hook::low_level::exit(128 + number);
            }
        });
        Ok(Self { first, task })
    }

    /// Waits for the first signal.
    pub(crate) async fn received(&self) {
        let mut first = self.first.clone();
        if first.wait_for(Option::is_some).await.is_err() {
            // No signal can arrive any more.
            pending::<()>().await;
        }
    }

    /// Returns the number of the first signal, once it has arrived.
    pub(crate) fn number(&self) -> Option<i32> {
        *self.first.borrow()
    }
}

impl Drop for StopSignal {
    fn drop(&mut self) {
        // After a first signal, the second one still ends the process.
        if self.number().is_none() {
            self.task.abort();
        }
    }
}

/// Returns the number of SIGHUP each time that the process receives it.
///
/// # Errors
/// The operating system installs no handler.
pub(crate) fn reload_signals() -> io::Result<impl Stream<Item = i32> + Unpin> {
    Ok(Box::pin(numbers(signal(SignalKind::hangup())?, SignalKind::hangup())))
}

fn numbers(signal: Signal, kind: SignalKind) -> impl Stream<Item = i32> {
    stream::unfold(signal, move |mut signal| async move {
        signal.recv().await?;
        Some((kind.as_raw_value(), signal))
    })
}
