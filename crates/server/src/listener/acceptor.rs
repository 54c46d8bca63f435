//! Accepts connections on listening sockets, up to a limit that all sockets share. Each network of
//! peers has a share of the connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected as _;

use crate::{
    config::sections::GrpcSettings,
    fair_share::{Caller, FairShare, Share},
    listener::{
        Protocols, Tls,
        connection::{Connection, OpeningTimeouts},
        memory::{self, MemoryListener},
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
    places: FairShare,
    timeouts: OpeningTimeouts,
    tls: Option<Tls>,
    log_throttle: Arc<LogThrottle>,
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A listening socket.
    Tcp(TcpListener),
    /// This process. Such connections have no TLS.
    Memory(MemoryListener),
}

/// A stream of connections that are ready to be served.
pub type Connections = stream::BoxStream<'static, io::Result<Connection>>;

impl Acceptor {
    /// Creates an acceptor with the limits of `settings`.
    #[must_use]
    pub fn new(settings: &GrpcSettings, tls: Option<Tls>) -> Self {
        let places = FairShare::new(settings.max_connections);
        let log_throttle = Arc::new(LogThrottle::every(LOG_PERIOD));
        Self { places, timeouts: settings.into(), tls, log_throttle }
    }

    /// Returns the connections to `listener`.
    ///
    /// Handshakes make progress only while the stream is polled.
    pub fn connections(&self, listener: Listener, protocols: Protocols) -> Connections {
        let acceptor = self.clone();
        let listener = match listener {
            Listener::Tcp(listener) => listener,
            Listener::Memory(listener) => return acceptor.memory_connections(listener),
        };
        let handshakes = accept_all(listener).filter_map(move |(stream, peer)| {
            let place = acceptor.place(peer);
            let acceptor = acceptor.clone();
            std::future::ready(place.map(|place| acceptor.handshake(stream, place, protocols)))
        });
        // The places limit the number of handshakes.
        handshakes
            .buffer_unordered(usize::MAX)
            .filter_map(|connection| std::future::ready(connection.map(Ok)))
            .boxed()
    }

    fn memory_connections(self, listener: MemoryListener) -> Connections {
        let accept = move |stream| {
            let info = memory::addresses();
            let place =
                self.places.reserve(Caller::peer(info.remote_addr().map(|peer| peer.ip())), 1).ok()?;
            Some(Ok(Connection::new(stream, info, self.timeouts, place)))
        };
        listener.accept_all().filter_map(move |stream| std::future::ready(accept(stream))).boxed()
    }

    /// Returns the place of a new connection from `peer`, or `None` if the share of its network is
    /// used up.
    fn place(&self, peer: SocketAddr) -> Option<Share> {
        match self.places.reserve(Caller::peer(Some(peer.ip())), 1) {
            Ok(place) => Some(place),
            Err(refusal) => {
                metrics::count_refused_connection("too_many");
                if let Some(count) = self.log_throttle.record() {
                    let (open, allowed) = (refusal.held, refusal.allowed);
                    tracing::warn!(count, %peer, open, allowed, "connections closed: connection limit reached");
                }
                None
            }
        }
    }

    async fn handshake(self, stream: TcpStream, place: Share, protocols: Protocols) -> Option<Connection> {
        // Responses are small, and must not wait to be combined into one packet.
        let _ = stream.set_nodelay(true);
        let info = stream.connect_info();
        let Some(tls) = &self.tls else {
            return Some(Connection::new(stream, info, self.timeouts, place));
        };
        let handshake = TlsAcceptor::from(tls.config(protocols)).accept(stream);
        match timeout(self.timeouts.handshake, handshake).await {
            Ok(Ok(stream)) => Some(Connection::new(stream, info, self.timeouts, place)),
            failed => {
                metrics::count_refused_connection("tls");
                let cause = failed.err().map_or("TLS handshake failed", |_| "TLS handshake timed out");
                tracing::debug!(peer = ?info.remote_addr(), cause, "connection closed");
                None
            }
        }
    }
}

/// Accepts connections forever. A failure of the operating system is logged and retried.
pub(crate) fn accept_all(listener: TcpListener) -> impl Stream<Item = (TcpStream, SocketAddr)> + Send {
    let log_throttle = LogThrottle::every(LOG_PERIOD);
    stream::unfold((listener, log_throttle), |(listener, log_throttle)| async {
        loop {
            match listener.accept().await {
                Ok(accepted) => return Some((accepted, (listener, log_throttle))),
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
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
    };

    use tower_service::Service as _;

    use super::*;
    use crate::{config::Settings, listener::memory::memory_listener};

    async fn socket() -> (Listener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Listener::Tcp(listener), address)
    }

    fn acceptor(max_connections: usize, timeout: Duration) -> Acceptor {
        let settings = GrpcSettings { max_connections, ..Settings::default().grpc };
        let timeouts = OpeningTimeouts { handshake: timeout, first_request: 2 * timeout };
        Acceptor { timeouts, ..Acceptor::new(&settings, None) }
    }

    /// Connects to `address` from another loopback address.
    async fn connect_from(host: [u8; 4], address: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((host, 0).into()).unwrap();
        socket.connect(address).await.unwrap()
    }

    async fn is_closed(client: &mut TcpStream) -> bool {
        client.read(&mut [0]).await.unwrap() == 0
    }

    #[tokio::test]
    async fn connection_above_the_limit_is_closed_until_one_ends() {
        let (listener, address) = socket().await;
        let mut connections = acceptor(1, Duration::from_secs(60)).connections(listener, Protocols::Http2);
        let _first_client = TcpStream::connect(address).await.unwrap();
        let first = connections.next().await.unwrap().unwrap();
        let mut second_client = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = connections.next() => panic!("a second connection was accepted"),
            closed = is_closed(&mut second_client) => assert!(closed),
        }
        drop(first);
        let _third_client = TcpStream::connect(address).await.unwrap();
        assert!(connections.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn peer_with_many_connections_leaves_places_for_others() {
        let (listener, address) = socket().await;
        let mut connections = acceptor(18, Duration::from_secs(60)).connections(listener, Protocols::Http2);
        let mut open = Vec::new();
        for _ in 0..16 {
            let client = TcpStream::connect(address).await.unwrap();
            open.push((client, connections.next().await.unwrap().unwrap()));
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = connections.next() => panic!("a connection above the share was accepted"),
            closed = is_closed(&mut refused) => assert!(closed),
        }
        let _other = connect_from([127, 0, 0, 2], address).await;
        assert!(connections.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn connection_in_memory_is_local_and_counts() {
        let (listener, mut connector) = memory_listener();
        let mut connections =
            acceptor(1, Duration::from_secs(60)).connections(Listener::Memory(listener), Protocols::Http2);
        let _client = connector.call(http::Uri::from_static("http://local")).await.unwrap();
        let connection = connections.next().await.unwrap().unwrap();
        let peer = connection.connect_info().tcp().remote_addr().unwrap();
        assert!(peer.ip().is_loopback());
        let refused = connector.call(http::Uri::from_static("http://local")).await.unwrap();
        tokio::select! {
            _ = connections.next() => panic!("a second connection was accepted"),
            read = async { refused.into_inner().read(&mut [0]).await } => assert_eq!(read.unwrap(), 0),
        }
    }

    #[tokio::test]
    async fn connection_times_out_before_its_first_bytes() {
        let (listener, address) = socket().await;
        let mut connections = acceptor(9, Duration::from_millis(20)).connections(listener, Protocols::Http2);
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn connection_times_out_only_before_its_first_request() {
        let (listener, address) = socket().await;
        let limit = Duration::from_millis(20);
        let mut connections = acceptor(9, limit).connections(listener, Protocols::Http2);
        for sends_request in [false, true] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let mut connection = connections.next().await.unwrap().unwrap();
            client.write_all(&[7; 24]).await.unwrap();
            connection.read_exact(&mut [0; 24]).await.unwrap();
            if sends_request {
                connection.connect_info().mark_request();
                let silence = timeout(10 * limit, connection.read_u8()).await;
                assert!(silence.is_err());
            } else {
                let error = connection.read_u8().await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            }
        }
    }
}
