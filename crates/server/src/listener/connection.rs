//! One accepted connection.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{
    config::sections::GrpcSettings,
    fair_share::Share,
    telemetry::metrics::{ConnectionGuard, count_connection},
};

/// The length of the HTTP/2 connection preface, in bytes. Every HTTP/1.1 request is longer.
const PREFACE_BYTES: usize = 24;

/// A connection whose client must send its first bytes, and then its first request, within time
/// limits.
///
/// The HTTP implementation sets no such limits. A connection that does nothing would occupy its
/// place until its maximum age.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    info: ConnectionInfo,
    opening: Option<Opening>,
    _place: Share,
    _guard: ConnectionGuard,
}

/// The time limits of a new connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpeningTimeouts {
    /// For the TLS handshake, and again for the first bytes.
    pub(crate) handshake: Duration,
    /// For the first request after that.
    pub(crate) first_request: Duration,
}

impl From<&GrpcSettings> for OpeningTimeouts {
    fn from(settings: &GrpcSettings) -> Self {
        Self {
            handshake: Duration::from_secs(settings.handshake_timeout_s),
            first_request: Duration::from_secs(settings.first_request_timeout_s),
        }
    }
}

/// What the requests of a connection know of it. An extension of each request.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    tcp: TcpConnectInfo,
    has_request: Arc<AtomicBool>,
}

impl ConnectionInfo {
    /// Returns the addresses of the connection.
    #[must_use]
    pub fn tcp(&self) -> &TcpConnectInfo {
        &self.tcp
    }

    /// Records that the connection has a request, so that it is not closed for having none.
    pub fn mark_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
    }
}

/// The transport below HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Memory(DuplexStream),
}

/// The time before the first request.
#[derive(Debug)]
struct Opening {
    bytes_read: usize,
    /// Ends the time for the first bytes, and then the time for the first request.
    sleep: Pin<Box<Sleep>>,
    first_request: Duration,
}

impl Opening {
    /// Counts received bytes.
    fn receive(&mut self, bytes: usize) {
        let before = self.bytes_read;
        self.bytes_read = before.saturating_add(bytes);
        if before < PREFACE_BYTES
            && self.bytes_read >= PREFACE_BYTES
            && let Some(limit) = Instant::now().checked_add(self.first_request)
        {
            self.sleep.as_mut().reset(limit);
        }
    }
}

impl Connection {
    pub(crate) fn new(
        transport: Transport,
        tcp: TcpConnectInfo,
        timeouts: OpeningTimeouts,
        place: Share,
    ) -> Self {
        let OpeningTimeouts { handshake, first_request } = timeouts;
        let sleep = Box::pin(tokio::time::sleep(handshake));
        let opening = Some(Opening { bytes_read: 0, sleep, first_request });
        let info = ConnectionInfo { tcp, has_request: Arc::default() };
        Self { transport, info, opening, _place: place, _guard: count_connection() }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
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
            Transport::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let Some(opening) = &mut this.opening else { return polled };
        if this.info.has_request.load(Ordering::Relaxed) {
            this.opening = None;
            return polled;
        }
        opening.receive(buf.filled().len() - before);
        if polled.is_pending() && opening.sleep.as_mut().poll(cx).is_ready() {
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
            Transport::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
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
            Transport::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
