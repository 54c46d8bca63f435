//! A connection that is closed while its client still sends.
//!
//! Closing a socket with unread bytes in it resets the connection, and the reset can overtake the answer that says why
//! the rest of the body was not wanted. So what is still on its way is read and dropped for a while.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// How long a client may take to notice that it is answered.
const PATIENCE: Duration = Duration::from_secs(2);

/// A transport that reads to the end, within limits, once it is shut down.
#[derive(Debug)]
pub(crate) struct Linger<T> {
    transport: T,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// The client has been told that nothing more will come.
    Closed,
    /// It was still sending.
    Lingering(Pin<Box<Sleep>>),
}

impl<T> Linger<T> {
    pub(crate) fn new(transport: T) -> Self {
        Self { transport, state: State::Open }
    }
}

impl<T: AsyncRead + Unpin> Linger<T> {
    /// Drops what has arrived; whether that was the end of it, or an error.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut unread = [0; 8 << 10];
        loop {
            let mut unread = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut unread));
            if read.is_err() || unread.filled().is_empty() {
                return Poll::Ready(());
            }
            if !matches!(self.state, State::Lingering(_)) {
                self.state = State::Lingering(Box::pin(tokio::time::sleep(PATIENCE)));
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Linger<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.state, State::Open) {
            ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
            this.state = State::Closed;
        }
        let drained = this.poll_drain(cx);
        match &mut this.state {
            State::Lingering(patience) if drained.is_pending() => patience.as_mut().poll(cx).map(Ok),
            // A connection that was idle is not waited for.
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_at_once() {
        let (_client, server) = tokio::io::duplex(1 << 10);
        let begin = Instant::now();
        Linger::new(server).shutdown().await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_still_sends_is_read_until_it_stops() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        client.write_all(&[7; 100]).await.unwrap();
        let sending = async {
            client.write_all(&[7; 100_000]).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            drop(client);
        };
        let mut server = Linger::new(server);
        let begin = Instant::now();
        let (closed, ()) = tokio::join!(server.shutdown(), sending);
        closed.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_stop_is_left() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        client.write_all(&[7; 100]).await.unwrap();
        let begin = Instant::now();
        Linger::new(server).shutdown().await.unwrap();
        assert_eq!(begin.elapsed(), PATIENCE);
    }
}
