//! Accepts connections on listening sockets, up to a limit that all sockets share.

use std::{io, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected as _;

use crate::{
    listener::{
        Protocols, Tls,
        connection::{Connection, Transport},
    },
    telemetry::{logging::throttle::LogThrottle, metrics},
};

/// The minimum time between two log lines of a kind, during a flood of connections.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// The pause after a failure to accept a connection, for example without file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts connections within limits that all listeners of a server share.
#[derive(Clone, Debug)]
pub struct Acceptor {
    permits: Arc<Semaphore>,
    handshake_timeout: Duration,
    tls: Option<Tls>,
    log_throttle: Arc<LogThrottle>,
}

/// A stream of connections that are ready to be served.
pub type Connections = stream::BoxStream<'static, io::Result<Connection>>;

impl Acceptor {
    /// Creates an acceptor of at most `max_connections` connections at a time.
    ///
    /// Each connection has `handshake_timeout` for the TLS handshake, and again for its first
    /// bytes.
    #[must_use]
    pub fn new(max_connections: usize, handshake_timeout: Duration, tls: Option<Tls>) -> Self {
        let permits = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        let log_throttle = Arc::new(LogThrottle::every(LOG_PERIOD));
        Self { permits, handshake_timeout, tls, log_throttle }
    }

    /// Returns the connections to `listener`.
    ///
    /// Handshakes make progress only while the stream is polled.
    pub fn connections(&self, listener: TcpListener, protocols: Protocols) -> Connections {
        let acceptor = self.clone();
        let handshakes = accept_all(listener).filter_map(move |stream| {
            let permit = Arc::clone(&acceptor.permits).try_acquire_owned();
            if permit.is_err() {
                metrics::count_refused_connection("too_many");
                if let Some(count) = acceptor.log_throttle.record() {
                    tracing::warn!(count, "connections closed: connection limit reached");
                }
            }
            let acceptor = acceptor.clone();
            std::future::ready(permit.ok().map(|permit| acceptor.handshake(stream, permit, protocols)))
        });
        // The permits limit the number of handshakes.
        handshakes
            .buffer_unordered(usize::MAX)
            .filter_map(|connection| std::future::ready(connection.map(Ok)))
            .boxed()
    }

    async fn handshake(
        self,
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        protocols: Protocols,
    ) -> Option<Connection> {
        // Responses are small, and must not wait to be combined into one packet.
        let _ = stream.set_nodelay(true);
        let info = stream.connect_info();
        let transport = match &self.tls {
            None => Transport::Plain(stream),
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.config(protocols)).accept(stream);
                match timeout(self.handshake_timeout, handshake).await {
                    Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
                    failed => {
                        metrics::count_refused_connection("tls");
                        let cause =
                            failed.err().map_or("TLS handshake failed", |_| "TLS handshake timed out");
                        tracing::debug!(peer = ?info.remote_addr(), cause, "connection closed");
                        return None;
                    }
                }
            }
        };
        Some(Connection::new(transport, info, self.handshake_timeout, permit))
    }
}

/// Accepts connections forever. A failure of the operating system is logged and retried.
fn accept_all(listener: TcpListener) -> impl Stream<Item = TcpStream> + Send {
    let log_throttle = LogThrottle::every(LOG_PERIOD);
    stream::unfold((listener, log_throttle), |(listener, log_throttle)| async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, (listener, log_throttle))),
                Err(error) => {
                    if let Some(count) = log_throttle.record() {
                        tracing::warn!(%error, count, "accepting connections failed");
                    }
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn socket() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn connection_above_the_limit_is_closed_until_one_ends() {
        let (listener, address) = socket().await;
        let mut connections =
            Acceptor::new(1, Duration::from_secs(60), None).connections(listener, Protocols::Http2);
        let _first_client = TcpStream::connect(address).await.unwrap();
        let first = connections.next().await.unwrap().unwrap();
        let mut second_client = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            _ = connections.next() => panic!("a second connection was accepted"),
            read = second_client.read(&mut byte) => assert_eq!(read.unwrap(), 0),
        }
        drop(first);
        let _third_client = TcpStream::connect(address).await.unwrap();
        assert!(connections.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn silent_connection_times_out_only_before_its_first_bytes() {
        let (listener, address) = socket().await;
        let limit = Duration::from_millis(20);
        let mut connections = Acceptor::new(9, limit, None).connections(listener, Protocols::Http2);
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let mut speaking = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        speaking.write_all(&[7; 24]).await.unwrap();
        let mut preface = [0; 24];
        connection.read_exact(&mut preface).await.unwrap();
        // After the preface, the protocol sets the time limits.
        let silence = timeout(10 * limit, connection.read_u8()).await;
        assert!(silence.is_err());
    }
}
