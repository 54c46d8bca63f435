//! HTTP connections, from the first to the last.

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
    http::{lingering_close::Linger, router::router, state::HttpServer},
    listener::{
        Connection, Connections,
        http2::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
    },
};

/// The least that hyper takes as its buffer, which is what bounds the headers of HTTP/1.1.
const LEAST_BUFFER_BYTES: usize = 8 << 10;

/// Serves `connections` until `stop`, and then until those that are there have ended.
pub async fn serve(
    mut connections: Connections,
    server: HttpServer,
    settings: &Settings,
    stop: CancellationToken,
) {
    let listener =
        Listener { builder: builder(&settings.grpc), age: Age::new(&settings.grpc), stop: stop.clone() };
    let router = router(server, &settings.http);
    let open = TaskTracker::new();
    while let Some(Some(connection)) = stop.run_until_cancelled(connections.next()).await {
        // A listener that fails is not a connection, and never comes: the door waits until it is well again.
        let Ok(connection) = connection else { continue };
        open.spawn(listener.clone().attend(connection, router.clone()));
    }
    drop(connections);
    open.close();
    open.wait().await;
}

/// Limits equal to those of the gRPC listener.
fn builder(settings: &GrpcSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(settings.max_header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Also how long a connection may be idle: HTTP/1.1 has no pings to find the dead ones by.
        .header_read_timeout(Duration::from_secs(settings.keepalive_interval_s))
        .max_buf_size(header_bytes.max(LEAST_BUFFER_BYTES));
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

/// How old a connection may become.
#[derive(Clone, Copy, Debug)]
struct Age {
    limit: Duration,
    grace: Duration,
}

impl Age {
    fn new(settings: &GrpcSettings) -> Self {
        let limit = match settings.max_connection_age_s {
            0 => Duration::MAX,
            age => Duration::from_secs(age),
        };
        Self { limit, grace: Duration::from_secs(settings.max_connection_age_grace_s) }
    }
}

/// What all connections have in common.
#[derive(Clone)]
struct Listener {
    builder: Builder<TokioExecutor>,
    age: Age,
    stop: CancellationToken,
}

impl Listener {
    /// Serves one connection to its end. It takes no more requests once it is too old or the server stops; those in
    /// flight are answered, the old connection's within its grace.
    async fn attend(self, connection: Connection, router: Router) {
        let service = Extension(connection.connect_info()).layer(router);
        let service = TowerToHyperService::new(service);
        let mut served = pin!(self.builder.serve_connection(TokioIo::new(Linger::new(connection)), service));
        let grace = tokio::select! {
            ended = &mut served => return report(ended),
            () = self.stop.cancelled() => Duration::MAX,
            () = sleep(self.age.limit) => self.age.grace,
        };
        served.as_mut().graceful_shutdown();
        match timeout(grace, served).await {
            Ok(ended) => report(ended),
            Err(_) => tracing::debug!("connection closed: it is too old"),
        }
    }
}

fn report<E: std::fmt::Display>(ended: Result<(), E>) {
    // Mostly clients that went away without a word.
    if let Err(error) = ended {
        tracing::debug!(%error, "connection closed");
    }
}
