//! SIGTERM and SIGINT as a stream, so that the first can drain the server and the second can end it.

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

fn numbers(signal: Signal, kind: SignalKind) -> impl Stream<Item = i32> {
    stream::unfold(signal, move |mut signal| async move {
        signal.recv().await?;
        Some((kind.as_raw_value(), signal))
    })
}
