//! Runs the server: listens at once, serves once the models are loaded, and stops on a signal.

pub mod reload;
pub mod shutdown;
pub mod ops;
pub mod access;
pub mod exit;

use std::{net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use proto::DESCRIPTORS;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    auth::Authenticated,
    config::Settings,
    grpc::{
        admin::MAX_REQUEST_BYTES, deadline_layer::DeadlineLayer,
        generated::admin_service_server::AdminServiceServer, guarded, handler::RequestHandler,
    },
    http::{self, HttpServer},
    lifecycle::{
        admin::{Administration, ModelAdmin},
        health::{Health, Readiness},
        manager::{LoadModelFn, ModelManager},
    },
    listener::{
        Acceptor, Connections, Protocols, RequestMarkLayer,
        http2::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
    },
    models::{info::ModelInfo, loaded_model::InferenceEngine, registry::ModelRegistry},
    pipeline::dispatcher::{Dispatcher, InferenceService},
    request::memory_budget::MemoryBudget,
    serve::{
        access::AccessPolicy,
        exit::Exit,
        ops::endpoint::{self, OpsConfig, SnapshotFn},
        shutdown::RunningServer,
    },
    telemetry::{Protocol, TelemetryLayer, metrics::MetricsLayer, tracing::Tracing},
};

/// The time limit for sending the errors of calls in flight after an engine has failed.
const FAILED_ENGINE_LIMIT: Duration = Duration::from_secs(5);

/// The time limit for engine threads to end once no call is in flight.
const ENGINE_STOP_LIMIT: Duration = Duration::from_secs(10);

/// The listening sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP, if it is on.
    pub http: Option<TcpListener>,
    /// For the operations endpoint, if it is on.
    pub metrics: Option<(TcpListener, OpsConfig)>,
}

/// Binds a listening socket to `address`.
///
/// # Errors
/// The error of the operating system, with the address.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves on `listeners` until the first of `signals` or until an engine fails.
///
/// Returns how the server ended.
///
/// Calls are rejected with `MODEL_LOADING` and health reports `NOT_SERVING` until all models of
/// `settings` are loaded. Then `announce` is called with their descriptions, and the server serves.
///
/// # Errors
/// Those of `load`, and a model that fails its self-test.
pub async fn serve<E: InferenceEngine>(
    settings: &Settings,
    listeners: Listeners,
    access: AccessPolicy,
    tracing: Tracing,
    load: LoadModelFn<E>,
    mut signals: impl Stream<Item = i32> + Unpin,
    announce: impl FnOnce(&[Arc<ModelInfo>]),
) -> anyhow::Result<Exit> {
    let models = ModelRegistry::loading();
    let (sender, readiness) = watch::channel(Readiness::default());
    let (health, stop) = (Health::new(sender), CancellationToken::new());
    let (manager, mut failures) =
        ModelManager::new(models.clone(), load, settings.clone(), health.clone(), stop.clone());
    let manager = Arc::new(manager);
    let startup = Startup { models: models.clone(), health, stop, readiness, manager: Arc::clone(&manager) };
    let mut running = start(settings, listeners, access, tracing.clone(), startup).await?;
    let loaded = tokio::select! {
        loaded = manager.load_all() => loaded,
        // No call is in flight before the models are loaded.
        Some(_) = signals.next() => return Ok(Exit::Clean),
    };
    let infos = loaded?;
    running.health.set_accepting(true).await;
    announce(&infos);
    let failure = tokio::select! {
        Some(error) = failures.recv() => Some(error),
        Some(signal) = signals.next() => {
            tracing::info!(signal, "stop requested");
            None
        }
    };
    manager.stop_supervision();
    let ending = async {
        let exit = match failure {
            Some(error) => {
                tracing::error!(%error, "engine failed; stopping the server");
                models.fail(&error);
                running.health.set_accepting(false).await;
                running.finish(FAILED_ENGINE_LIMIT).await;
                Exit::EngineBroken
            }
            None => {
                let exit = running.drain(&settings.drain).await;
                // After the drain limit, engine threads may still run abandoned jobs.
                if exit == Exit::Clean
                    && tokio::time::timeout(ENGINE_STOP_LIMIT, manager.shut_down()).await.is_err()
                {
                    tracing::warn!("engine shutdown timed out");
                }
                exit
            }
        };
        tracing.finish().await;
        exit
    };
    tokio::select! {
        exit = ending => Ok(exit),
        Some(signal) = signals.next() => Ok(Exit::Signal(signal)),
    }
}

/// The parts of a server that exist before its models.
struct Startup<E: InferenceEngine> {
    models: ModelRegistry<E>,
    health: Health,
    stop: CancellationToken,
    readiness: watch::Receiver<Readiness>,
    manager: Arc<ModelManager<E>>,
}

/// Starts to serve on `listeners`, with health `NOT_SERVING`.
async fn start<E: InferenceEngine>(
    settings: &Settings,
    listeners: Listeners,
    access: AccessPolicy,
    tracing: Tracing,
    startup: Startup<E>,
) -> anyhow::Result<RunningServer> {
    let Startup { models, health, stop, readiness, manager } = startup;
    let operations = listeners.metrics.map(|(listener, config)| {
        let models = models.clone();
        let snapshots: SnapshotFn = Arc::new(move || models.snapshots());
        AbortOnDropHandle::new(tokio::spawn(endpoint::serve(listener, config, readiness, snapshots)))
    });
    health.set_accepting(false).await;
    let in_flight = TaskTracker::new();
    let AccessPolicy { authenticator, tls } = access;
    let grpc = &settings.grpc;
    let memory_budget = MemoryBudget::new(settings.into());
    let dispatcher = Dispatcher::new(models.clone(), settings.limits.clone(), in_flight.clone())
        .response_memory(memory_budget.clone());
    let inference: Arc<dyn InferenceService> = Arc::new(dispatcher.log_content(settings.log.log_content));
    let acceptor = Acceptor::new(grpc, tls);

    let handler = RequestHandler {
        inference,
        models: Arc::new(models),
        default_deadline: settings.limits.default_deadline(),
        stream_window: grpc.stream_window,
        stop: stop.clone(),
    };
    let admin = settings.admin.admin.then_some(manager as Arc<dyn ModelAdmin>);
    let server = HttpServer {
        handler,
        authenticator: authenticator.clone(),
        administration: Administration { admin, authenticator },
        budget: memory_budget,
        tracing,
    };
    let connections = acceptor.connections(listeners.grpc, Protocols::Http2);
    let grpc = serve_grpc(settings, server.clone(), &health, connections)?;
    let http = listeners.http.map(|listener| {
        let connections = acceptor.connections(listener, Protocols::Http);
        let (settings, stop) = (settings.clone(), stop.clone());
        async move { http::serve::serve(connections, server, &settings, stop).await }
    });
    let connections = async {
        let http = async {
            if let Some(http) = http {
                http.await;
            }
        };
        tokio::join!(grpc, http);
    };
    Ok(RunningServer { health, stop, in_flight, connections: tokio::spawn(connections), operations })
}

/// Returns a future that serves gRPC on `connections` until the service is stopped.
fn serve_grpc(
    settings: &Settings,
    server: HttpServer,
    health: &Health,
    connections: Connections,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let HttpServer { handler, authenticator, administration, budget, tracing } = server;
    let grpc = &settings.grpc;
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = if grpc.reflection {
        // The reflection client of grpcio uses v1alpha.
        let v1 = describe().build_v1().context("cannot build the reflection service")?;
        let v1alpha = describe().build_v1alpha().context("cannot build the reflection service")?;
        let guard = authenticator.clone();
        (Some(Authenticated::new(v1, guard.clone())), Some(Authenticated::new(v1alpha, guard)))
    } else {
        (None, None)
    };
    let stop = handler.stop.clone();
    let mut server = tonic::transport::Server::builder()
        .layer(RequestMarkLayer)
        .layer(TelemetryLayer::new(Protocol::Grpc, tracing))
        .layer(MetricsLayer)
        .layer(DeadlineLayer { default_deadline: settings.limits.default_deadline() })
        .max_concurrent_streams(grpc.max_concurrent_streams)
        // Clients that share a connection may reset all their calls before a busy server accepts
        // them, which is no attack. The limit therefore equals the number of concurrent calls.
        // Beyond it, the connection closes.
        .http2_max_pending_accept_reset_streams(usize::try_from(grpc.max_concurrent_streams).ok())
        .http2_keepalive_interval(Some(Duration::from_secs(grpc.keepalive_interval_s)))
        .http2_keepalive_timeout(Some(Duration::from_secs(grpc.keepalive_timeout_s)))
        .http2_max_header_list_size(grpc.max_header_bytes)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    if let Some(age) = NonZeroU64::new(grpc.max_connection_age_s) {
        server = server
            .max_connection_age(Duration::from_secs(age.get()))
            .max_connection_age_grace(Duration::from_secs(grpc.max_connection_age_grace_s));
    }
    let served = server
        .add_service(tonic_health::pb::health_server::HealthServer::new(health.service()))
        .add_optional_service(v1)
        .add_optional_service(v1alpha)
        .add_service(guarded(handler, &authenticator, budget))
        .add_service(Authenticated::new(
            AdminServiceServer::new(administration).max_decoding_message_size(MAX_REQUEST_BYTES),
            authenticator,
        ))
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned());
    Ok(async {
        if let Err(error) = served.await {
            tracing::error!(%error, "gRPC listener failed");
        }
    })
}
