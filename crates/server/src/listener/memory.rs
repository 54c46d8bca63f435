//! Connections inside this process, for a program that runs the server and calls it.

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use futures::{FutureExt as _, Stream, future::BoxFuture, stream};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};
use tonic::transport::server::TcpConnectInfo;
use tower_service::Service;

/// Bytes that one side can send before the other reads.
const BUFFER_BYTES: usize = 256 << 10;

/// Connections that wait until the server accepts them.
const MAX_WAITING: usize = 16;

/// The server's end: the counterpart of a listening socket.
#[derive(Debug)]
pub struct MemoryListener(mpsc::Receiver<DuplexStream>);

/// The client's end. As the connector of a [`tonic::transport::Endpoint`], it opens connections.
#[derive(Clone, Debug)]
pub struct MemoryConnector(mpsc::Sender<DuplexStream>);

/// Returns a listener, and the connector that opens connections to it.
#[must_use]
pub fn memory_listener() -> (MemoryListener, MemoryConnector) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (MemoryListener(receiver), MemoryConnector(sender))
}

impl MemoryListener {
    /// Returns the connections. The stream never ends, like that of a socket.
    pub(crate) fn accept_all(self) -> impl Stream<Item = DuplexStream> + Send {
        stream::unfold(self.0, |mut receiver| async move {
            match poll_fn(|context| receiver.poll_recv(context)).await {
                Some(stream) => Some((stream, receiver)),
                None => std::future::pending().await,
            }
        })
    }
}

/// Returns the addresses of a connection. The caller counts as a client on this machine.
pub(crate) fn addresses() -> TcpConnectInfo {
    let here = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    TcpConnectInfo { local_addr: here, remote_addr: here }
}

impl Service<Uri> for MemoryConnector {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let sender = self.0.clone();
        async move {
            let (client, server) = duplex(BUFFER_BYTES);
            let stopped = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the engine has stopped");
            sender.send(server).await.map_err(stopped)?;
            Ok(TokioIo::new(client))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn connection_carries_bytes_both_ways() {
        let (listener, mut connector) = memory_listener();
        let mut client = connector.call(Uri::from_static("http://local")).await.unwrap().into_inner();
        let mut accepted = Box::pin(listener.accept_all());
        let mut server = accepted.next().await.unwrap();
        client.write_all(b"call").await.unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).await.unwrap();
        server.write_all(&bytes).await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"call");
    }

    #[tokio::test]
    async fn connecting_to_a_stopped_listener_is_refused() {
        let (listener, mut connector) = memory_listener();
        drop(listener);
        let error = connector.call(Uri::from_static("http://local")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
