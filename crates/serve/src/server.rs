//! The running server: listens at once, answers once the model is loaded, stops on a signal.

use std::{future::Future, net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    admin::{Administration, Change, MAX_REQUEST_BYTES},
    ask::AskService,
    auth::{Authenticated, Authenticator},
    deadline::DeadlineLayer,
    description::Description,
    drain::Running,
    exit::Exit,
    frontend::{Answering, Ask, Frontend},
    health::Health,
    http::{self, HttpServer},
    listener::{Connections, Door, Protocols, Tls},
    models::Models,
    monitor::{self, Look, ObservedLayer, Vitals, Watchers},
    proto::{DESCRIPTORS, admin_service_server::AdminServiceServer, blip_service_server::BlipServiceServer},
    roster::{Loader, Roster},
    settings::Settings,
    telemetry::{Protocol, TelemetryLayer, trace::Tracing},
    upload::{Metered, Room},
};

/// Flow-control windows: how much of an upload may be under way unread, in bytes. HTTP/2's own 64 KiB would make every
/// image wait for the network's round trips.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// After a broken engine's last words: how long the errors of the calls in flight may take to go out.
const BROKEN_ENGINE_LIMIT: Duration = Duration::from_secs(5);

/// How long engine threads may take to end once nothing is in flight.
const ENGINE_STOP_LIMIT: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP, if that is served.
    pub http: Option<TcpListener>,
    /// For those who watch, with what they may see.
    pub metrics: Option<(TcpListener, Watchers)>,
}

/// Who gets in, and how.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Knows who may call.
    pub authenticator: Authenticator,
    /// TLS, if it is on.
    pub tls: Option<Tls>,
}

impl Entry {
    /// Keys and certificates as `settings` name them.
    ///
    /// # Errors
    /// What is wrong with their files; or that everyone could ask who reaches an address, and nobody said that this is
    /// wanted.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let authenticator = Authenticator::new(&settings.auth)?;
        let tls = Tls::new(&settings.tls)?;
        let guarded = !authenticator.is_open() || settings.tls.tls_client_ca_file.is_some();
        if !guarded && !settings.auth.insecure {
            let addresses = [Some(settings.grpc.listen), settings.http.http_listen.address()];
            if let Some(public) = addresses.into_iter().flatten().find(|address| !address.ip().is_loopback())
            {
                anyhow::bail!(
                    "will not listen on {public} without API keys: everyone who reaches it could ask; give \
                     --auth-keys-file, --auth-keys or --tls-client-ca-file, or --insecure if that is wanted"
                );
            }
        }
        Ok(Self { authenticator, tls })
    }
}

/// Takes an address of the settings.
///
/// # Errors
/// The operating system's, with the address.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves on `listeners`, with traces by way of `tracing`, until the first of `signals`, or until an engine breaks, and says how it ended.
///
/// Calls are answered once `loader` has made all models that `settings` name, which is when `announce` is called with their
/// descriptions; until then they are refused as `MODEL_LOADING` and health says NOT_SERVING.
///
/// # Errors
/// Those of `loader`; or that a model answers nothing.
pub async fn serve<E: Answering>(
    settings: &Settings,
    listeners: Listeners,
    entry: Entry,
    tracing: Tracing,
    loader: Loader<E>,
    mut signals: impl Stream<Item = i32> + Unpin,
    announce: impl FnOnce(&[Arc<Description>]),
) -> anyhow::Result<Exit> {
    let models = Models::loading();
    let (vitals, watched) = watch::channel(Vitals::default());
    let (health, stop) = (Health::new(vitals), CancellationToken::new());
    let (roster, mut is_broken) =
        Roster::new(models.clone(), loader, settings.clone(), health.clone(), stop.clone());
    let roster = Arc::new(roster);
    let opening = Opening { models: models.clone(), health, stop, watched, roster: Arc::clone(&roster) };
    let mut running = start(settings, listeners, entry, tracing.clone(), opening).await?;
    let loaded = tokio::select! {
        loaded = roster.open() => loaded,
        // Nothing is in flight before the models are loaded.
        Some(_) = signals.next() => return Ok(Exit::Clean),
    };
    let descriptions = loaded?;
    running.health.report(true).await;
    announce(&descriptions);
    let broken = tokio::select! {
        Some(error) = is_broken.recv() => Some(error),
        Some(signal) = signals.next() => {
            tracing::info!(signal, "stopping");
            None
        }
    };
    roster.stop_watching();
    let ending = async {
        let exit = match broken {
            Some(error) => {
                tracing::error!(%error, "the engine has broken");
                models.break_off(&error);
                running.health.report(false).await;
                running.finish(BROKEN_ENGINE_LIMIT).await;
                Exit::EngineBroken
            }
            None => {
                let exit = running.drain(&settings.drain).await;
                // What an abandoned call waits for is not waited for here either.
                if exit == Exit::Clean
                    && tokio::time::timeout(ENGINE_STOP_LIMIT, roster.shut_down()).await.is_err()
                {
                    tracing::warn!("engine threads did not end in time");
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

/// What a server begins with, before it has models.
struct Opening<E: Answering> {
    models: Models<E>,
    health: Health,
    stop: CancellationToken,
    watched: watch::Receiver<Vitals>,
    roster: Arc<Roster<E>>,
}

/// Answers on `listeners` from now on, with health saying NOT_SERVING.
async fn start<E: Answering>(
    settings: &Settings,
    listeners: Listeners,
    entry: Entry,
    tracing: Tracing,
    opening: Opening<E>,
) -> anyhow::Result<Running> {
    let Opening { models, health, stop, watched, roster } = opening;
    let monitor = listeners.metrics.map(|(listener, watchers)| {
        let models = models.clone();
        let look: Look = Arc::new(move || models.snapshots());
        AbortOnDropHandle::new(tokio::spawn(monitor::serve(listener, watchers, watched, look)))
    });
    health.report(false).await;
    let in_flight = TaskTracker::new();
    let Entry { authenticator, tls } = entry;
    let grpc = &settings.grpc;
    let frontend = Frontend::new(models.clone(), settings.limits.clone(), in_flight.clone());
    let frontend: Arc<dyn Ask> = Arc::new(frontend.log_content(settings.log.log_content));
    let stall_limit = Duration::from_secs(grpc.upload_stall_s);
    let room = Room::new(grpc.max_held_bytes, grpc.max_message_bytes, stall_limit);
    let door = Door::new(grpc.max_connections, Duration::from_secs(grpc.handshake_timeout_s), tls);

    let service = AskService {
        frontend,
        models: Arc::new(models),
        default_deadline: settings.limits.default_deadline(),
        stream_window: grpc.stream_window,
        stop: stop.clone(),
    };
    let change = settings.admin.admin.then_some(roster as Arc<dyn Change>);
    let server = HttpServer {
        service: service.clone(),
        authenticator: authenticator.clone(),
        administration: Administration { change, authenticator },
        room,
        tracing,
    };
    let connections = door.connections(listeners.grpc, Protocols::Http2);
    let grpc = serve_grpc(settings, server.clone(), &health, connections)?;
    let http = listeners.http.map(|listener| {
        let connections = door.connections(listener, Protocols::Http);
        let (settings, stop) = (settings.clone(), stop.clone());
        async move { http::serve(connections, server, &settings, stop).await }
    });
    let connections = async {
        let http = async {
            if let Some(http) = http {
                http.await;
            }
        };
        tokio::join!(grpc, http);
    };
    Ok(Running { health, stop, in_flight, connections: tokio::spawn(connections), monitor })
}

/// Answers gRPC on `connections` until the service is told to stop.
fn serve_grpc(
    settings: &Settings,
    server: HttpServer,
    health: &Health,
    connections: Connections,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let HttpServer { service, authenticator, administration, room, tracing } = server;
    let grpc = &settings.grpc;
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = if grpc.reflection_off {
        (None, None)
    } else {
        // The older one is what grpcio's own reflection client speaks.
        let v1 = describe().build_v1().context("cannot describe the service")?;
        let v1alpha = describe().build_v1alpha().context("cannot describe the service")?;
        let guard = authenticator.clone();
        (Some(Authenticated::new(v1, guard.clone())), Some(Authenticated::new(v1alpha, guard)))
    };
    let stop = service.stop.clone();
    let mut server = tonic::transport::Server::builder()
        .layer(TelemetryLayer::new(Protocol::Grpc, tracing))
        .layer(ObservedLayer)
        .layer(DeadlineLayer { otherwise: settings.limits.default_deadline() })
        .max_concurrent_streams(grpc.max_concurrent_streams)
        // Callers that share a connection may all hang up before a busy server has looked at their calls: that is no
        // attack, so as many may do so as may call at a time. Beyond that the connection is closed.
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
        .add_service(guarded(service, &authenticator, room))
        .add_service(Authenticated::new(
            AdminServiceServer::new(administration).max_decoding_message_size(MAX_REQUEST_BYTES),
            authenticator,
        ))
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned());
    Ok(async {
        if let Err(error) = served.await {
            tracing::error!(%error, "the gRPC listener has ended");
        }
    })
}

/// `BlipService` for those whom `authenticator` knows, with their messages in `room`.
pub(crate) fn guarded(
    service: AskService,
    authenticator: &Authenticator,
    room: Room,
) -> Authenticated<Metered<BlipServiceServer<AskService>>> {
    // The room refuses longer messages first, in our own words.
    let ask = BlipServiceServer::new(service).max_decoding_message_size(room.max_message_bytes());
    Authenticated::new(Metered::new(ask, room), authenticator.clone())
}
