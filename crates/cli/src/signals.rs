//! SIGTERM and SIGINT as a stream, so that the first can drain the server and the second can end it; SIGHUP likewise.

use std::io;

use futures::{Stream, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The numbers of the stop signals that this process is sent, from now on; they no longer end it by themselves.
///
/// # Errors
/// The operating system's, if it takes no handler.
pub fn stop_signals() -> io::Result<impl Stream<Item = i32> + Unpin> {
    Ok(stream::select(
        Box::pin(numbers(signal(SignalKind::terminate())?, SignalKind::terminate())),
        Box::pin(numbers(signal(SignalKind::interrupt())?, SignalKind::interrupt())),
    ))
}

/// The number of the signal that asks for files to be read anew, whenever this process is sent it.
///
/// # Errors
/// The operating system's, if it takes no handler.
pub fn reload_signals() -> io::Result<impl Stream<Item = i32> + Unpin> {
    Ok(Box::pin(numbers(signal(SignalKind::hangup())?, SignalKind::hangup())))
}

fn numbers(signal: Signal, kind: SignalKind) -> impl Stream<Item = i32> {
    stream::unfold(signal, move |mut signal| async move {
        signal.recv().await?;
        Some((kind.as_raw_value(), signal))
    })
}
