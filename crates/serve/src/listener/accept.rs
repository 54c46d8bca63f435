//! From a listening socket to connections.

use std::{io, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected as _;

use super::{
    Protocols, Tls,
    connection::{Connection, Transport},
};
use crate::{monitor, telemetry::Occasionally};

/// How often it is told at most of connections that are closed: a flood of them must not become one of log lines.
const WARNING_PERIOD: Duration = Duration::from_secs(1);

/// How long no connection is accepted after the operating system had no means left for one, such as file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Who gets in: shared by all listeners of a server.
#[derive(Clone, Debug)]
pub struct Door {
    places: Arc<Semaphore>,
    handshake_timeout: Duration,
    tls: Option<Tls>,
    refused: Arc<Occasionally>,
}

/// Connections that are ready to be served.
pub type Connections = stream::BoxStream<'static, io::Result<Connection>>;

impl Door {
    /// A door for so many connections at a time, each of which has `handshake_timeout` for TLS and again for its first
    /// bytes.
    #[must_use]
    pub fn new(max_connections: usize, handshake_timeout: Duration, tls: Option<Tls>) -> Self {
        let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        let refused = Arc::new(Occasionally::every(WARNING_PERIOD));
        Self { places, handshake_timeout, tls, refused }
    }

    /// Whether connections are by TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The connections that come to `listener`. Nothing is spawned: handshakes go on while the stream is polled.
    pub fn connections(&self, listener: TcpListener, protocols: Protocols) -> Connections {
        let door = self.clone();
        let handshakes = accepted(listener).filter_map(move |stream| {
            let place = Arc::clone(&door.places).try_acquire_owned();
            if place.is_err() {
                monitor::connection_refused("too_many");
                if let Some(connections) = door.refused.happened() {
                    tracing::warn!(connections, "connections closed: there are too many");
                }
            }
            let door = door.clone();
            std::future::ready(place.ok().map(|place| door.admit(stream, place, protocols)))
        });
        // As many handshakes at a time as there may be connections.
        handshakes
            .buffer_unordered(usize::MAX)
            .filter_map(|admitted| std::future::ready(admitted.map(Ok)))
            .boxed()
    }

    async fn admit(
        self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        protocols: Protocols,
    ) -> Option<Connection> {
        // Answers are small and must not wait to be sent together.
        let _ = stream.set_nodelay(true);
        let info = stream.connect_info();
        let transport = match &self.tls {
            None => Transport::Plain(stream),
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.config(protocols)).accept(stream);
                match timeout(self.handshake_timeout, handshake).await {
                    Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
                    failed => {
                        monitor::connection_refused("tls");
                        let cause =
                            failed.err().map_or("its TLS handshake failed", |_| "it took too long over TLS");
                        tracing::debug!(peer = ?info.remote_addr(), cause, "connection closed");
                        return None;
                    }
                }
            }
        };
        Some(Connection::new(transport, info, self.handshake_timeout, place))
    }
}

fn accepted(listener: TcpListener) -> impl Stream<Item = TcpStream> + Send {
    let failed = Occasionally::every(WARNING_PERIOD);
    stream::unfold((listener, failed), |(listener, failed)| async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, (listener, failed))),
                Err(error) => {
                    if let Some(times) = failed.happened() {
                        tracing::warn!(%error, times, "cannot accept a connection");
                    }
                    sleep(EXHAUSTED_PAUSE).await;
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
    async fn a_connection_too_many_is_closed_and_the_next_one_has_its_place() {
        let (listener, address) = socket().await;
        let mut connections =
            Door::new(1, Duration::from_secs(60), None).connections(listener, Protocols::Http2);
        let _first_client = TcpStream::connect(address).await.unwrap();
        let first = connections.next().await.unwrap().unwrap();
        let mut second_client = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            _ = connections.next() => panic!("a second connection got in"),
            read = second_client.read(&mut byte) => assert_eq!(read.unwrap(), 0),
        }
        drop(first);
        let _third_client = TcpStream::connect(address).await.unwrap();
        assert!(connections.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_given_up_and_one_that_speaks_is_not() {
        let (listener, address) = socket().await;
        let patience = Duration::from_millis(20);
        let mut connections = Door::new(9, patience, None).connections(listener, Protocols::Http2);
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let mut speaking = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        speaking.write_all(&[7; 24]).await.unwrap();
        let mut preface = [0; 24];
        connection.read_exact(&mut preface).await.unwrap();
        // From here on it is the protocol's own affair how long nothing comes.
        let silence = timeout(10 * patience, connection.read_u8()).await;
        assert!(silence.is_err());
    }
}
