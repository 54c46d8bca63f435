//! One accepted connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::telemetry::metrics::{ConnectionGuard, count_connection};

/// The length of the HTTP/2 connection preface, in bytes. Every HTTP/1.1 request is longer.
const PREFACE_BYTES: usize = 24;

/// A connection whose client must send its first bytes within a time limit.
///
/// The HTTP implementation sets no time limit before the first bytes arrive, so a silent connection
/// would otherwise remain open forever.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    info: TcpConnectInfo,
    preface: Option<PrefaceTimeout>,
    _permit: OwnedSemaphorePermit,
    _guard: ConnectionGuard,
}

/// The transport below HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The time limit for the first bytes.
#[derive(Debug)]
struct PrefaceTimeout {
    bytes_read: usize,
    sleep: Pin<Box<Sleep>>,
}

impl Connection {
    pub(crate) fn new(
        transport: Transport,
        info: TcpConnectInfo,
        preface_timeout: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let sleep = Box::pin(tokio::time::sleep(preface_timeout));
        let preface = Some(PrefaceTimeout { bytes_read: 0, sleep });
        Self { transport, info, preface, _permit: permit, _guard: count_connection() }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let Some(preface) = &mut this.preface else { return polled };
        preface.bytes_read += buf.filled().len() - before;
        if preface.bytes_read >= PREFACE_BYTES {
            this.preface = None;
        } else if polled.is_pending() && preface.sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
