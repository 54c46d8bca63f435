//! Closes a connection only after its remaining input was read, within a time limit.
//!
//! Closing a socket with unread bytes resets the connection. The reset can overtake a response that
//! rejects the rest of a body. The server therefore reads and drops this rest before it closes.
//! Where a body was left unread, it waits for the rest, which may still be on its way.

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

use crate::listener::unread_body::UnreadBody;

/// How long a client may continue to send after the response.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A transport that drains its input when it is shut down.
#[derive(Debug)]
pub(crate) struct LingeringClose<T> {
    transport: T,
    unread: UnreadBody,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// The write side is shut down.
    ShutDown,
    /// The write side is shut down, and the client still sends or is expected to.
    Draining(Pin<Box<Sleep>>),
}

impl State {
    fn draining() -> Self {
        Self::Draining(Box::pin(tokio::time::sleep(DRAIN_TIMEOUT)))
    }
}

impl<T> LingeringClose<T> {
    pub(crate) fn new(transport: T, unread: UnreadBody) -> Self {
        Self { transport, unread, state: State::Open }
    }
}

impl<T: AsyncRead + Unpin> LingeringClose<T> {
    /// Drops received data. Is ready at the end of the input or after an error.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut unread = [0; 8 << 10];
        loop {
            let mut unread = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut unread));
            if read.is_err() || unread.filled().is_empty() {
                return Poll::Ready(());
            }
            if !matches!(self.state, State::Draining(_)) {
                self.state = State::draining();
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LingeringClose<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringClose<T> {
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
            this.state = if this.unread.exists() { State::draining() } else { State::ShutDown };
        }
        // Before the input: a client that always has more would use up tokio's budget of this poll,
        // and the timeout would never be ready.
        if let State::Draining(timeout) = &mut this.state
            && timeout.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        let drained = this.poll_drain(cx);
        match &mut this.state {
            State::Draining(timeout) if drained.is_pending() => timeout.as_mut().poll(cx).map(Ok),
            // An idle connection is closed at once.
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;
    use crate::listener::unread_body::BodyTracker;

    fn idle<T>(server: T) -> LingeringClose<T> {
        LingeringClose::new(server, UnreadBody::default())
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_closed_at_once() {
        let (_client, server) = tokio::io::duplex(1 << 10);
        let begin = Instant::now();
        idle(server).shutdown().await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn remaining_input_is_read_until_the_client_stops() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        client.write_all(&[7; 100]).await.unwrap();
        let sending = async {
            client.write_all(&[7; 100_000]).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            drop(client);
        };
        let mut server = idle(server);
        let begin = Instant::now();
        let (closed, ()) = tokio::join!(server.shutdown(), sending);
        closed.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_stays_open_is_closed_after_the_timeout() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        client.write_all(&[7; 100]).await.unwrap();
        let begin = Instant::now();
        idle(server).shutdown().await.unwrap();
        assert_eq!(begin.elapsed(), DRAIN_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_always_sends_is_closed_after_the_timeout() {
        let endless = tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
        let mut server = idle(endless);
        let (closed, ()) = tokio::join!(server.shutdown(), tokio::time::advance(DRAIN_TIMEOUT));
        closed.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn rest_of_an_unread_body_is_awaited() {
        let (client, server) = tokio::io::duplex(1 << 10);
        let unread = UnreadBody::default();
        drop(BodyTracker::new(unread.clone()).watch(Full::new(Bytes::from("image"))));
        let begin = Instant::now();
        let mut server = LingeringClose::new(server, unread);
        let pause = DRAIN_TIMEOUT / 2;
        let closing = async {
            tokio::time::sleep(pause).await;
            drop(client);
        };
        tokio::join!(server.shutdown(), closing).0.unwrap();
        assert_eq!(begin.elapsed(), pause);
    }
}
