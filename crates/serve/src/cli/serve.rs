//! `blip-serve serve`.

use std::{io::Write as _, time::Duration};

use clap::Args;
use tokio::time::Instant;

use super::{EXIT_CODES, settings::SettingsOptions, told};
use crate::{
    exit::Exit,
    load,
    monitor::{self, Watchers},
    reload::keep_fresh,
    server::{self, Entry, Listeners},
    signals::{reload_signals, stop_signals},
    telemetry::{LogFilter, trace::Tracing},
};

/// Serve a model over gRPC and HTTP.
///
/// Listens at once, says in one line on standard output when the model is loaded, and runs until SIGTERM or SIGINT:
/// calls in flight are then answered first, and a second signal ends the server at once.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES, after_help = "See --help for more, exit codes among it.")]
pub struct ServeCommand {
    #[command(flatten)]
    settings: SettingsOptions,
}

impl ServeCommand {
    pub(super) async fn run(self, log_filter: LogFilter) -> anyhow::Result<Exit> {
        let settings = match self.settings.resolve() {
            Ok(resolved) => resolved.settings,
            Err(error) => return Ok(told(&error)),
        };
        let begin = Instant::now();
        let signals = stop_signals()?;
        let entry = Entry::new(&settings)?;
        let tracing = Tracing::new(&settings.trace, &settings.scheduler)?;
        let grpc = server::listen(settings.grpc.listen).await?;
        let http = match settings.http.http_listen.address() {
            Some(address) => Some(server::listen(address).await?),
            None => None,
        };
        let metrics = match settings.metrics.metrics_listen.address() {
            // Before anything is measured.
            Some(address) => {
                let listener = server::listen(address).await?;
                Some((listener, Watchers { recorder: monitor::install()?, log_filter }))
            }
            None => None,
        };
        let listeners = Listeners { grpc, http, metrics };
        let addresses = addresses(&listeners, entry.tls.is_some())?;
        let period = Duration::from_secs(settings.auth.auth_reload_s);
        let Entry { authenticator, tls } = entry.clone();
        let fresh = keep_fresh(authenticator, tls, period, reload_signals()?);
        let announce = |model: load::Description| {
            let load::Description { model, revision, device, dtype } = model;
            monitor::describe_model(&model, revision.as_deref().unwrap_or_default(), &device, &dtype);
            let revision = revision.map(|commit| format!(" (commit {commit})")).unwrap_or_default();
            let seconds = begin.elapsed().as_secs_f64();
            // Whoever started the server may not be listening; it serves all the same.
            let _ = writeln!(
                std::io::stdout(),
                "blip-serve {} ready: {addresses}, model {model}{revision}, device {device}, dtype {dtype}, \
                 loaded in {seconds:.2} s",
                env!("CARGO_PKG_VERSION"),
            );
        };
        tokio::select! {
            exit = server::serve(
                &settings, listeners, entry, tracing, load::load(&settings), signals, announce,
            ) => exit,
            never = fresh => never,
        }
    }
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
