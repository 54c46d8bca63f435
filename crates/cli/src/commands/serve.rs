//! `blip-serve serve`.

use std::{io::Write as _, sync::Arc, time::Duration};

use clap::Args;
use futures::FutureExt as _;
use server::{
    engine::blip_engine::BlipEngine,
    lifecycle::manager::LoadModelFn,
    models::{info::ModelInfo, loader::ModelLoader},
    serve::{
        self, Listeners, access::AccessPolicy, exit::{self, Exit}, ops::endpoint::OpsConfig,
        reload::reload_credentials,
    },
    telemetry::{logging::filter::LogFilter, metrics, tracing::Tracing},
};
use tokio::time::Instant;

use crate::{
    messages::print_settings_error,
    settings::SettingsArgs,
    signals::{reload_signals, stop_signals},
};

/// Serve a model over gRPC and HTTP.
///
/// Listens at once, says in one line on standard output when the model is loaded, and runs until SIGTERM or SIGINT:
/// calls in flight are then answered first, and a second signal ends the server at once.
#[derive(Args, Debug)]
#[command(after_long_help = exit::HELP, after_help = "See --help for details and exit codes.")]
pub struct ServeCommand {
    #[command(flatten)]
    settings: SettingsArgs,
}

impl ServeCommand {
    pub(crate) async fn run(self, log_filter: LogFilter, variables: &[String]) -> anyhow::Result<Exit> {
        let settings = match self.settings.resolve(variables) {
            Ok(resolved) => resolved.settings,
            Err(error) => return Ok(print_settings_error(&error)),
        };
        let begin = Instant::now();
        let signals = stop_signals()?;
        let entry = AccessPolicy::new(&settings)?;
        let loader = ModelLoader::new(&settings)?;
        let tracing = Tracing::new(&settings.trace, &settings.scheduler)?;
        let grpc = serve::listen(settings.grpc.listen).await?;
        let http = match settings.http.http_listen.address() {
            Some(address) => Some(serve::listen(address).await?),
            None => None,
        };
        let metrics = match settings.metrics.metrics_listen.address() {
            // Before anything is measured.
            Some(address) => {
                let listener = serve::listen(address).await?;
                Some((listener, OpsConfig { recorder: metrics::install()?, log_filter, commit: env!("BLIP_SERVE_COMMIT") }))
            }
            None => None,
        };
        let listeners = Listeners { grpc, http, metrics };
        let addresses = addresses(&listeners, entry.tls.is_some())?;
        let period = Duration::from_secs(settings.auth.auth_reload_s);
        let AccessPolicy { authenticator, tls } = entry.clone();
        let fresh = reload_credentials(authenticator, tls, period, reload_signals()?);
        let announce = |models: &[Arc<ModelInfo>]| {
            let seconds = begin.elapsed().as_secs_f64();
            // Whoever started the server may not be listening; it serves all the same.
            let _ = writeln!(
                std::io::stdout(),
                "blip-serve {} ready: {addresses}, {}, loaded in {seconds:.2} s",
                env!("CARGO_PKG_VERSION"),
                told_models(models),
            );
        };
        let loader: LoadModelFn<BlipEngine> = Arc::new(move |wanted| loader.clone().load(wanted).boxed());
        tokio::select! {
            exit = serve::serve(&settings, listeners, entry, tracing, loader, signals, announce) => exit,
            never = fresh => never,
        }
    }
}

/// What is served. A lone model is told by its source, as nobody need name it; several with their names.
fn told_models(models: &[Arc<ModelInfo>]) -> String {
    let told = |model: &Arc<ModelInfo>| {
        let ModelInfo { name, source, revision, device, dtype, .. } = &**model;
        let named = if models.len() > 1 { format!("{name}={source}") } else { source.clone() };
        let revision = revision.as_ref().map(|commit| format!(" (commit {commit})")).unwrap_or_default();
        format!("model {named}{revision}, device {device}, dtype {dtype}")
    };
    models.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// Where the server can be reached, for people and for programs that read the first line.
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
