//! `blip-serve serve`.

use std::{fmt, io::Write as _, sync::Arc, time::Duration};

use blip::Architecture;
use blip_server::{
    engine::blip_engine::BlipEngine,
    lifecycle::manager::LoadModelFn,
    listener::Listener,
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
use tokio::{net::TcpListener, time::Instant};

use crate::{
    connection::DEFAULT_SERVER,
    decode_worker::worker_program,
    messages::{describe_models, print_settings_error},
    settings::SettingsArgs,
    signals::{reload_signals, stop_signals},
};

/// Serve models over gRPC and HTTP
///
/// The server listens at once. It prints a line on standard output when its models are loaded, and
/// then what to do next.
/// SIGTERM or SIGINT stops it after it has answered the calls in flight. A second signal ends it at
/// once. SIGHUP reloads API keys and certificates.
#[derive(Args, Debug)]
#[command(after_long_help = exit::HELP, after_help = "See --help for details and exit codes.")]
pub(crate) struct ServeCommand {
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
        let access = AccessPolicy::new(&settings)?;
        let tracing = Tracing::new(&settings.trace, &settings.scheduler)?;
        let grpc = Listener::Tcp(serve::listen(settings.grpc.listen).await?);
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
        let scheme = if access.tls.is_some() { "https" } else { "http" };
        let addresses = Addresses::of(&listeners, scheme)?;
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
            let _ = write!(std::io::stdout(), "{}", addresses.hints(models));
        };
        let loader: LoadModelFn<BlipEngine> = Arc::new(move |spec| loader.clone().load(spec).boxed());
        tokio::select! {
            exit = serve::serve(&settings, listeners, access, tracing, loader, signals, announce) => exit,
            never = reload => never,
        }
    }
}

/// The addresses of a server.
#[derive(Debug)]
struct Addresses {
    grpc: String,
    http: Option<String>,
    metrics: Option<String>,
}

impl Addresses {
    fn of(listeners: &Listeners, scheme: &str) -> std::io::Result<Self> {
        let url = |scheme: &str, listener: &TcpListener| -> std::io::Result<String> {
            Ok(format!("{scheme}://{}", listener.local_addr()?))
        };
        let grpc = match &listeners.grpc {
            Listener::Tcp(listener) => url(scheme, listener)?,
            Listener::Memory(_) => return Err(std::io::ErrorKind::AddrNotAvailable.into()),
        };
        let http = listeners.http.as_ref().map(|listener| url(scheme, listener)).transpose()?;
        let metrics = listeners.metrics.as_ref().map(|(listener, _)| url("http", listener)).transpose()?;
        Ok(Self { grpc, http, metrics })
    }

    /// Returns what to do next: lines with the page for browsers and that of the HTTP API, and a
    /// line with a command.
    fn hints(&self, models: &[Arc<ModelInfo>]) -> String {
        let pages = self.http.as_ref().map(|http| format!("page: {http}/\ndocs: {http}/docs\n"));
        let mut text = pages.unwrap_or_default();
        let command = match models.first().map(|model| model.architecture) {
            Some(Architecture::Captioning) => "caption photo.jpg",
            Some(Architecture::Retrieval) => "match photo.jpg -t \"a dog\"",
            Some(Architecture::QuestionAnswering) | None => "ask photo.jpg -q \"what is this?\"",
        };
        let server = if self.grpc == DEFAULT_SERVER { String::new() } else { format!(" -s {}", self.grpc) };
        text += &format!("try:  blip-serve {command}{server}\n");
        text
    }
}

impl fmt::Display for Addresses {
    /// Writes the addresses for the first line of output, which programs parse.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grpc {}", self.grpc)?;
        if let Some(http) = &self.http {
            write!(f, ", http {http}")?;
        }
        if let Some(metrics) = &self.metrics {
            write!(f, ", metrics {metrics}")?;
        }
        Ok(())
    }
}
