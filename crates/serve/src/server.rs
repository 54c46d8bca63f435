//! The running server: listens at once, answers once the model is loaded, stops on a signal.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use scheduler::{EngineError, EngineErrorKind, EngineState};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::TcpIncoming;
use tonic_health::server::HealthReporter;

use crate::{
    ask::{Answering, AskService, Pipeline},
    deadline::DeadlineLayer,
    drain::{Running, report},
    exit::Exit,
    gate::Gate,
    proto::{DESCRIPTORS, blip_service_server::BlipServiceServer},
    settings::{GrpcSettings, RequestLimits, Settings},
    upload::{Metered, Room},
};

/// Flow-control windows: how much of an upload may be under way unread, in bytes. HTTP/2's own 64 KiB would make every
/// image wait for the network's round trips.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// After a broken engine's last words: how long the errors of the calls in flight may take to go out.
const BROKEN_ENGINE_LIMIT: Duration = Duration::from_secs(5);

/// How long engine threads may take to end once nothing is in flight.
const ENGINE_STOP_LIMIT: Duration = Duration::from_secs(10);

/// Takes the address of `settings`.
///
/// # Errors
/// The operating system's, with the address.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves on `listener` until the first of `signals`, or until the engine breaks, and says how it ended.
///
/// Calls are answered once `load` is done, which is when `announce` is called with its description; until then they are
/// refused as `MODEL_LOADING` and health says NOT_SERVING.
///
/// # Errors
/// Those of `load`.
pub async fn serve<E: Answering, D>(
    settings: &Settings,
    listener: TcpListener,
    load: impl Future<Output = anyhow::Result<(Pipeline<E>, D)>>,
    mut signals: impl Stream<Item = i32> + Unpin,
    announce: impl FnOnce(D),
) -> anyhow::Result<Exit> {
    let (gate, entrance) = watch::channel(Gate::Loading);
    let mut running = start(&settings.grpc, &settings.limits, listener, entrance).await?;
    let loaded = tokio::select! {
        loaded = load => loaded,
        // Nothing is in flight before the model is loaded.
        Some(_) = signals.next() => return Ok(Exit::Clean),
    };
    let (pipeline, description) = loaded?;
    let scheduler = pipeline.scheduler.clone();
    gate.send_replace(Gate::Open(Arc::new(pipeline)));
    report(&running.health, true).await;
    announce(description);

    let hang_limit = settings.scheduler.config().stall_after;
    let broken = tokio::select! {
        error = engine_broken(scheduler.engine_health(), &running.health, hang_limit) => Some(error),
        Some(signal) = signals.next() => {
            tracing::info!(signal, "stopping");
            None
        }
    };
    let ending = async {
        match broken {
            Some(error) => {
                tracing::error!(%error, "the engine has broken");
                gate.send_replace(Gate::Broken(error));
                report(&running.health, false).await;
                running.finish(BROKEN_ENGINE_LIMIT).await;
                Exit::EngineBroken
            }
            None => {
                let exit = running.drain(&settings.drain).await;
                // What an abandoned call waits for is not waited for here either.
                if exit == Exit::Clean
                    && tokio::time::timeout(ENGINE_STOP_LIMIT, scheduler.shutdown()).await.is_err()
                {
                    tracing::warn!("engine threads did not end in time");
                }
                exit
            }
        }
    };
    tokio::select! {
        exit = ending => Ok(exit),
        Some(signal) = signals.next() => Ok(Exit::Signal(signal)),
    }
}

/// Answers on `listener` from now on, with health saying NOT_SERVING.
async fn start<E: Answering>(
    settings: &GrpcSettings,
    limits: &RequestLimits,
    listener: TcpListener,
    entrance: watch::Receiver<Gate<E>>,
) -> anyhow::Result<Running> {
    let health = HealthReporter::new();
    report(&health, false).await;
    let health_service = tonic_health::server::HealthService::from_health_reporter(health.clone());
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
    };
    let in_flight = TaskTracker::new();
    let ask = BlipServiceServer::new(AskService::new(entrance, limits.clone(), in_flight.clone()))
        // The room refuses longer messages first, in our own words.
        .max_decoding_message_size(settings.max_message_bytes);
    let room = Room::new(settings.max_held_bytes, settings.max_message_bytes);
    let stop = CancellationToken::new();
    let connections = tonic::transport::Server::builder()
        .layer(DeadlineLayer)
        .max_concurrent_streams(settings.max_concurrent_streams)
        // Callers that share a connection may all hang up before a busy server has looked at their calls: that is no
        // attack, so as many may do so as may call at a time. Beyond that the connection is closed.
        .http2_max_pending_accept_reset_streams(usize::try_from(settings.max_concurrent_streams).ok())
        .http2_keepalive_interval(Some(Duration::from_secs(settings.keepalive_interval_s)))
        .http2_keepalive_timeout(Some(Duration::from_secs(settings.keepalive_timeout_s)))
        .http2_max_header_list_size(settings.max_header_bytes)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add_service(describe().build_v1().context("cannot describe the service")?)
        // What grpcio's own reflection client speaks.
        .add_service(describe().build_v1alpha().context("cannot describe the service")?)
        .add_service(Metered::new(ask, room))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.clone().cancelled_owned(),
        );
    Ok(Running { health, stop, in_flight, connections: tokio::spawn(connections) })
}

/// Keeps health in step with the engines, until none of them is left or one has been stalled for `hang_limit`.
async fn engine_broken(
    mut state: watch::Receiver<EngineState>,
    health: &HealthReporter,
    hang_limit: Duration,
) -> EngineError {
    loop {
        let now = state.borrow_and_update().clone();
        report(health, now.is_serving()).await;
        let limit = match now {
            EngineState::Dead(error) => return error,
            EngineState::Stalled => hang_limit,
            EngineState::Ready | EngineState::Degraded { .. } => Duration::MAX,
        };
        match tokio::time::timeout(limit, state.changed()).await {
            Ok(Ok(())) => {}
            // The scheduler has been shut down; whoever did that says how the server ends.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return EngineError::new(EngineErrorKind::Fatal, "an engine hangs in one batch"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tonic_health::{
        pb::{HealthCheckRequest, health_check_response::ServingStatus, health_server::Health as _},
        server::HealthService,
    };

    use super::*;

    const HANG_LIMIT: Duration = Duration::from_secs(60);

    async fn status(health: &HealthReporter) -> ServingStatus {
        let service = HealthService::from_health_reporter(health.clone());
        service.check(tonic::Request::new(HealthCheckRequest::default())).await.unwrap().into_inner().status()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_engine_is_not_serving_and_one_that_hangs_is_broken() {
        let health = HealthReporter::new();
        let (engine, state) = watch::channel(EngineState::Ready);
        let begin = Instant::now();
        let watched = engine_broken(state, &health, HANG_LIMIT);
        let story = async {
            let tick = || tokio::time::sleep(Duration::from_secs(1));
            engine.send_replace(EngineState::Stalled);
            tick().await;
            assert_eq!(status(&health).await, ServingStatus::NotServing);
            engine.send_replace(EngineState::Ready);
            tick().await;
            assert_eq!(status(&health).await, ServingStatus::Serving);
            engine.send_replace(EngineState::Stalled);
        };
        let (error, ()) = tokio::join!(watched, story);
        assert_eq!(error.kind, EngineErrorKind::Fatal);
        assert_eq!(begin.elapsed(), Duration::from_secs(2) + HANG_LIMIT);
        assert_eq!(status(&health).await, ServingStatus::NotServing);
    }
}
