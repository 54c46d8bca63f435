//! Connections of the operations listener, within limits that are independent of the other
//! listeners.
//!
//! Probes must be answered while a client holds many connections. The oldest connection therefore
//! makes room for a new one.

use std::{collections::VecDeque, net::SocketAddr, pin::pin, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo};
use futures::StreamExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_util::task::AbortOnDropHandle;
use tower_layer::Layer as _;

use crate::listener::acceptor::accept_all;

/// The time limit for the headers of a request, and for the next request of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The size of the read buffer, and so of the headers of a request, in bytes.
const BUFFER_BYTES: usize = 16 << 10;

/// The maximum number of concurrent requests of an HTTP/2 connection. Load balancers whose servers
/// speak HTTP/2 use it for probes, too.
const MAX_STREAMS: u32 = 16;

/// Serves `router` on `listener` forever, on at most `max_connections` connections at a time.
pub(crate) async fn serve(listener: TcpListener, router: Router, max_connections: usize) {
    let mut accepted = pin!(accept_all(listener));
    let mut open: VecDeque<AbortOnDropHandle<()>> = VecDeque::new();
    while let Some((stream, peer)) = accepted.next().await {
        open.retain(|connection| !connection.is_finished());
        if open.len() >= max_connections {
            open.pop_front();
        }
        open.push_back(AbortOnDropHandle::new(tokio::spawn(serve_one(stream, peer, router.clone()))));
    }
}

async fn serve_one<T>(transport: T, peer: SocketAddr, router: Router)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper panics on clocks outside of the format of the header.
        .auto_date_header(false)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval(HEADER_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(MAX_STREAMS as usize)
        .max_header_list_size(BUFFER_BYTES as u32);
    let service = TowerToHyperService::new(Extension(ConnectInfo(peer)).layer(router));
    if let Err(error) = builder.serve_connection(TokioIo::new(transport), service).await {
        tracing::debug!(%error, "operations connection closed");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// Starts a server of at most three connections and returns its address.
    async fn start() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Router::new().route("/", get(async || "answer")), 3));
        address
    }

    async fn connect(address: SocketAddr, request: &[u8]) -> TcpStream {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request).await.unwrap();
        client
    }

    async fn is_answered(client: &mut TcpStream) -> bool {
        let mut response = vec![0; 1 << 10];
        let length = client.read(&mut response).await.unwrap_or_default();
        response[..length].ends_with(b"answer")
    }

    #[tokio::test]
    async fn new_connection_takes_the_place_of_the_oldest() {
        let address = start().await;
        let mut half = Vec::new();
        for _ in 0..10 {
            half.push(connect(address, &REQUEST[..20]).await);
        }
        assert!(is_answered(&mut connect(address, REQUEST).await).await);
        // The last two incomplete requests are still open, and the others are closed.
        for client in &mut half[..8] {
            assert_eq!(client.read(&mut [0]).await.unwrap_or_default(), 0);
        }
        for client in &mut half[8..] {
            client.write_all(&REQUEST[20..]).await.unwrap();
            assert!(is_answered(client).await);
        }
    }

    #[tokio::test]
    async fn connection_stays_open_for_further_requests() {
        let mut client = connect(start().await, REQUEST).await;
        for _ in 0..3 {
            assert!(is_answered(&mut client).await);
            client.write_all(REQUEST).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_headers_end_at_the_time_limit() {
        let (mut client, transport) = tokio::io::duplex(1 << 10);
        client.write_all(&REQUEST[..20]).await.unwrap();
        let begin = tokio::time::Instant::now();
        let served = tokio::spawn(serve_one(transport, SocketAddr::from(([127, 0, 0, 1], 5)), Router::new()));
        served.await.unwrap();
        assert_eq!(begin.elapsed(), HEADER_TIMEOUT);
    }
}
