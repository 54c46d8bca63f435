//! The signals of the process as streams.
//!
//! The first SIGTERM or SIGINT drains the server, and the second ends it. SIGHUP reloads files.

use std::io;

use futures::{Stream, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
