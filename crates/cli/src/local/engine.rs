//! Runs a server inside this process while a command calls it.

use std::{pin::pin, sync::Arc};

use anyhow::Context as _;
use blip_server::{
    config::Settings,
    engine::blip_engine::BlipEngine,
    lifecycle::manager::LoadModelFn,
    listener::{Listener, MemoryConnector, memory_listener},
    models::{info::ModelInfo, loader::ModelLoader},
    serve::{self, Listeners, access::AccessPolicy, exit::Exit},
    telemetry::tracing::Tracing,
};
use futures::{FutureExt as _, stream};
use tokio::{sync::oneshot, time::Instant};
use tonic::transport::{Channel, Endpoint};

use crate::{
    decode_worker::worker_program,
    messages::{announce, describe_models},
};

/// The stop signal that the server gets when the command has ended.
const STOP: i32 = 15;

/// Loads the models of `settings`, runs `command` on a connection to them, and stops.
///
/// # Errors
/// A model that cannot be loaded, with `advice`, and the error of `command`. If the engine has
/// failed for good, the command is dropped, and the exit status says so.
pub(crate) async fn run_with_engine(
    settings: &Settings,
    advice: Option<&str>,
    command: impl AsyncFnOnce(Channel) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let begin = Instant::now();
    let access = AccessPolicy::new(settings)?;
    let tracing = Tracing::new(&settings.trace, &settings.scheduler)?;
    announce(&format!("loading {}", names(settings)));
    let loader = ModelLoader::new(settings, worker_program())?;
    let loader: LoadModelFn<BlipEngine> = Arc::new(move |spec| loader.clone().load(spec).boxed());
    let (listener, connector) = memory_listener();
    let listeners = Listeners { grpc: Listener::Memory(listener), http: None, metrics: None };
    let (stop, stopped) = oneshot::channel::<()>();
    let signals = Box::pin(stream::once(stopped.map(|_| STOP)));
    let (ready, is_ready) = oneshot::channel();
    let on_ready = |models: &[Arc<ModelInfo>]| {
        let seconds = begin.elapsed().as_secs_f64();
        announce(&format!("{}, loaded in {seconds:.2} s", describe_models(models)));
        // The command has ended if nobody waits.
        let _ = ready.send(());
    };
    let server = serve::serve(settings, listeners, access, tracing, loader, signals, on_ready);
    let client = async {
        if is_ready.await.is_err() {
            // The server ends with the reason.
            std::future::pending::<()>().await;
        }
        let exit = command(connect(connector).await?).await;
        drop(stop);
        exit
    };
    let (mut server, mut client) = (pin!(server), pin!(client));
    let exit = tokio::select! {
        ended = &mut server => return ended.map_err(|error| match advice {
            Some(advice) => anyhow::anyhow!("{error:#} ({advice})"),
            None => error,
        }),
        exit = &mut client => exit,
    };
    match server.await? {
        Exit::EngineBroken => Ok(Exit::EngineBroken),
        _ => exit,
    }
}

async fn connect(connector: MemoryConnector) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_static("http://local");
    endpoint.connect_with_connector(connector).await.context("cannot connect to the engine")
}

/// Returns the sources of the models.
fn names(settings: &Settings) -> String {
    let models = &settings.model.models;
    let sources: Vec<&str> = models.iter().map(|model| model.source.as_str()).collect();
    format!("model{} {}", if sources.len() > 1 { "s" } else { "" }, sources.join(", "))
}
