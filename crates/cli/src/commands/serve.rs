//! `blip-serve serve`.

use std::{io::Write as _, path::Path, sync::Arc, time::Duration};

use blip_server::{
    engine::blip_engine::BlipEngine,
    lifecycle::manager::LoadModelFn,
    models::{info::ModelInfo, loader::ModelLoader},
    serve::{
        self, Listeners,
        access::AccessPolicy,
        exit::{self, Exit},
        ops::endpoint::OpsConfig,
        reload::reload_credentials,
    },
    telemetry::{logging::filter::LogFilter, metrics, tracing::Tracing},
};
use clap::Args;
use futures::FutureExt as _;
use tokio::time::Instant;

use crate::{
    messages::print_settings_error,
    settings::SettingsArgs,
    signals::{reload_signals, stop_signals},
};

/// The program that runs, even after its file was replaced. Decode workers run the same version.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Serve models over gRPC and HTTP
///
/// The server listens at once and prints one line on standard output when its models are loaded.
/// SIGTERM or SIGINT stops it after it has answered the calls in flight. A second signal ends it at
/// once. SIGHUP reloads API keys and certificates.
#[derive(Args, Debug)]
#[command(after_long_help = exit::HELP, after_help = "See --help for details and exit codes.")]
pub(crate) struct ServeCommand {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Returns the program of decode workers, or `None` where this system does not show it.
fn worker_program() -> Option<&'static Path> {
    let program = Path::new(THIS_PROGRAM);
    let exists = program.exists();
    if !exists {
        tracing::warn!(path = THIS_PROGRAM, "images are decoded on threads: program not found");
    }
    exists.then_some(program)
}

impl ServeCommand {
    pub(crate) async fn run(self, log_filter: LogFilter, variables: &[String]) -> anyhow::Result<Exit> {
        let settings = match self.settings.resolve(variables) {
            Ok(resolved) => resolved.settings,
            Err(error) => return Ok(print_settings_error(&error)),
        };
        let begin = Instant::now();
        let signals = stop_signals()?;
        let access = AccessPolicy::new(&settings)?;
        let tracing = Tracing::new(&settings.trace, &settings.scheduler)?;
        let grpc = serve::listen(settings.grpc.listen).await?;
        let http = match settings.http.http_listen.address() {
            Some(address) => Some(serve::listen(address).await?),
            None => None,
        };
        let metrics = match settings.metrics.metrics_listen.address() {
            // Installs the recorder before the first measurement.
            Some(address) => {
                let listener = serve::listen(address).await?;
                Some((
                    listener,
                    OpsConfig {
                        recorder: metrics::install()?,
                        log_filter,
                        commit: env!("BLIP_SERVE_COMMIT"),
                    },
                ))
            }
            None => None,
        };
        let loader = ModelLoader::new(&settings, worker_program())?;
        let listeners = Listeners { grpc, http, metrics };
        let addresses = addresses(&listeners, access.tls.is_some())?;
        let period = Duration::from_secs(settings.auth.auth_reload_s);
        let AccessPolicy { authenticator, tls } = access.clone();
        let reload = reload_credentials(authenticator, tls, period, reload_signals()?);
        let announce = |models: &[Arc<ModelInfo>]| {
            let seconds = begin.elapsed().as_secs_f64();
            // Ignores a closed standard output.
            let _ = writeln!(
                std::io::stdout(),
                "blip-serve {} ready: {addresses}, {}, loaded in {seconds:.2} s",
                env!("CARGO_PKG_VERSION"),
                describe_models(models),
            );
        };
        let loader: LoadModelFn<BlipEngine> = Arc::new(move |spec| loader.clone().load(spec).boxed());
        tokio::select! {
            exit = serve::serve(&settings, listeners, access, tracing, loader, signals, announce) => exit,
            never = reload => never,
        }
    }
}

/// Returns the models of the server. The name of a single model is left out: no request needs it.
fn describe_models(models: &[Arc<ModelInfo>]) -> String {
    let describe = |model: &Arc<ModelInfo>| {
        let ModelInfo { name, source, revision, device, dtype, .. } = &**model;
        let named = if models.len() > 1 { format!("{name}={source}") } else { source.clone() };
        let revision = revision.as_ref().map(|commit| format!(" (commit {commit})")).unwrap_or_default();
        format!("model {named}{revision}, device {device}, dtype {dtype}")
    };
    models.iter().map(describe).collect::<Vec<_>>().join(", ")
}

/// Returns the addresses of the server for the first line of output, which programs parse.
fn addresses(listeners: &Listeners, tls: bool) -> std::io::Result<String> {
    let scheme = if tls { "https" } else { "http" };
    let mut text = format!("grpc {scheme}://{}", listeners.grpc.local_addr()?);
    if let Some(http) = &listeners.http {
        text += &format!(", http {scheme}://{}", http.local_addr()?);
    }
    if let Some((metrics, _)) = &listeners.metrics {
        text += &format!(", metrics http://{}", metrics.local_addr()?);
    }
    Ok(text)
}
