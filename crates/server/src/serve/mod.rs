//! Runs the server: listens at once, serves once the models are loaded, and stops on a signal.

pub mod reload;
pub mod shutdown;
pub mod ops;
pub mod access;
pub mod exit;
pub mod descriptor_limit;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _, future::OptionFuture};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    config::Settings,
    grpc::{
        handler::RequestHandler,
        routes::{GrpcServer, routes},
    },
    http::{self, HttpServer},
    lifecycle::{
        admin::{Administration, ModelAdmin},
        health::{Health, Readiness},
        manager::{LoadModelFn, ModelManager},
    },
    listener::{Acceptor, ConnectionServer, Listener, Protocols},
    models::{info::ModelInfo, loaded_model::InferenceEngine, registry::ModelRegistry},
    pipeline::dispatcher::{Dispatcher, InferenceService},
    request::memory_budget::MemoryBudget,
    serve::{
        access::AccessPolicy,
        exit::Exit,
        ops::endpoint::{self, OpsConfig, SnapshotFn},
        shutdown::RunningServer,
    },
    telemetry::tracing::Tracing,
};

/// The time limit for sending the errors of calls in flight after an engine has failed.
const FAILED_ENGINE_LIMIT: Duration = Duration::from_secs(5);

/// The time limit for engine threads to end once no call is in flight.
const ENGINE_STOP_LIMIT: Duration = Duration::from_secs(10);

/// The listeners of a server.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: Listener,
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
    descriptor_limit::raise();
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
    running.health.set_accepting(true);
    announce(&infos);
    let failure = tokio::select! {
        // A failure decides how the server ends, also if a stop is requested at the same time.
        biased;
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
                running.health.set_accepting(false);
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
        let operations = endpoint::serve(listener, config, settings.clone(), readiness, snapshots);
        AbortOnDropHandle::new(tokio::spawn(operations))
    });
    health.set_accepting(false);
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
        health: health.clone(),
        max_new_tokens: settings.limits.max_new_tokens,
    };
    let serve = |protocols| ConnectionServer::new(&settings.grpc, protocols, stop.clone());
    let HttpServer { handler, authenticator, administration, budget, tracing, .. } = server.clone();
    let grpc = GrpcServer { handler, authenticator, administration, budget, tracing, health: health.clone() };
    let routes = routes(grpc, settings)?;
    let connections = acceptor.connections(listeners.grpc, Protocols::Http2);
    let grpc = serve(Protocols::Http2).serve(connections, routes);
    let http = listeners.http.map(|listener| {
        let connections = acceptor.connections(Listener::Tcp(listener), Protocols::Http);
        serve(Protocols::Http).serve(connections, http::router::router(server, &settings.http))
    });
    let connections = async {
        tokio::join!(grpc, OptionFuture::from(http));
    };
    Ok(RunningServer { health, stop, in_flight, connections: tokio::spawn(connections), operations })
}
