//! Serves HTTP connections until the server stops.

use std::{pin::pin, time::Duration};

use axum::{Extension, Router};
use futures::StreamExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected as _;
use tower_layer::Layer as _;

use crate::{
    config::{Settings, sections::grpc::GrpcSettings},
    http::{lingering_close::LingeringClose, router::router, state::HttpServer},
    listener::{
        Connection, Connections, RequestMarkLayer,
        http2::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
    },
};

/// The minimum size of hyper's read buffer. Its size is the limit on HTTP/1.1 headers.
const MIN_BUFFER_BYTES: usize = 8 << 10;

/// Serves `connections` until `stop`. Then it waits for the open connections to end.
pub async fn serve(
    mut connections: Connections,
    server: HttpServer,
    settings: &Settings,
    stop: CancellationToken,
) {
    let connection_server = ConnectionServer {
        builder: builder(&settings.grpc),
        age_limit: AgeLimit::new(&settings.grpc),
        stop: stop.clone(),
    };
    let router = router(server, &settings.http);
    let open = TaskTracker::new();
    while let Some(Some(connection)) = stop.run_until_cancelled(connections.next()).await {
        // The acceptor retries after errors and never returns one.
        let Ok(connection) = connection else { continue };
        open.spawn(connection_server.clone().serve(connection, router.clone()));
    }
    drop(connections);
    open.close();
    open.wait().await;
}

/// Returns a connection builder with the limits of the gRPC listener.
fn builder(settings: &GrpcSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(settings.max_header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Also the idle limit of a connection, because HTTP/1.1 has no pings that detect dead
        // peers.
        .header_read_timeout(Duration::from_secs(settings.keepalive_interval_s))
        .max_buf_size(header_bytes.max(MIN_BUFFER_BYTES));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_pending_accept_reset_streams(usize::try_from(settings.max_concurrent_streams).ok())
        .keep_alive_interval(Duration::from_secs(settings.keepalive_interval_s))
        .keep_alive_timeout(Duration::from_secs(settings.keepalive_timeout_s))
        .max_header_list_size(settings.max_header_bytes)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder
}

/// The maximum age of a connection, and the time for its last requests after that.
#[derive(Clone, Copy, Debug)]
struct AgeLimit {
    max_age: Duration,
    grace: Duration,
}

impl AgeLimit {
    fn new(settings: &GrpcSettings) -> Self {
        let max_age = match settings.max_connection_age_s {
            0 => Duration::MAX,
            age => Duration::from_secs(age),
        };
        Self { max_age, grace: Duration::from_secs(settings.max_connection_age_grace_s) }
    }
}

/// Serves connections with the same limits.
#[derive(Clone)]
struct ConnectionServer {
    builder: Builder<TokioExecutor>,
    age_limit: AgeLimit,
    stop: CancellationToken,
}

impl ConnectionServer {
    /// Serves one connection to its end.
    ///
    /// It accepts no more requests when it reaches its maximum age or when the server stops. The
    /// server completes the requests in flight. At the maximum age, they have the grace time.
    async fn serve(self, connection: Connection, router: Router) {
        let service = Extension(connection.connect_info()).layer(RequestMarkLayer.layer(router));
        let service = TowerToHyperService::new(service);
        let transport = TokioIo::new(LingeringClose::new(connection));
        let mut served = pin!(self.builder.serve_connection(transport, service));
        let grace = tokio::select! {
            result = &mut served => return log_end(result),
            () = self.stop.cancelled() => Duration::MAX,
            () = sleep(self.age_limit.max_age) => self.age_limit.grace,
        };
        served.as_mut().graceful_shutdown();
        match timeout(grace, served).await {
            Ok(result) => log_end(result),
            Err(_) => tracing::debug!("connection closed: age limit reached"),
        }
    }
}

fn log_end<E: std::fmt::Display>(result: Result<(), E>) {
    // Most of these clients have disconnected without closing.
    if let Err(error) = result {
        tracing::debug!(%error, "connection closed");
    }
}
