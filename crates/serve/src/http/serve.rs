//! HTTP connections, from the first to the last.

use std::{sync::Arc, time::Duration};

use axum::Router;
use futures::StreamExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected as _;
use tower_layer::Layer as _;

use crate::{
    auth::Authenticator, frontend::Ask, listener::Connections, settings::Settings, upload::Room,
};

/// What HTTP requests are answered with.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// Answers.
    pub frontend: Arc<dyn Ask>,
    /// Knows who may call.
    pub authenticator: Authenticator,
    /// Room for request bodies, shared with gRPC.
    pub room: Room,
}

/// Serves `connections` until `stop`, and then until those that are there have ended.
pub async fn serve(
    mut connections: Connections,
    server: HttpServer,
    settings: &Settings,
    stop: CancellationToken,
) {
    let router: Router = Router::new();
    let _ = server;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let patience = Duration::from_secs(settings.grpc.handshake_timeout_s);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder.http2().timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    loop {
        let connection = tokio::select! {
            connection = connections.next() => connection,
            () = stop.cancelled() => break,
        };
        let Some(Ok(connection)) = connection else { break };
        let info = connection.connect_info();
        let service = axum::Extension(info).layer(router.clone());
        let served =
            builder.serve_connection_with_upgrades(TokioIo::new(connection), TowerToHyperService::new(service));
        tokio::spawn(graceful.watch(served.into_owned()));
    }
    drop(connections);
    graceful.shutdown().await;
}
