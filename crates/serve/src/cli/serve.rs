//! `blip-serve serve`.

use std::io::Write as _;

use clap::Args;
use tokio::time::Instant;

use super::EXIT_CODES;
use crate::{exit::Exit, load, server, settings::Settings, signals::stop_signals};

/// Serve a model over gRPC.
///
/// Listens at once, says in one line on standard output when the model is loaded, and runs until SIGTERM or SIGINT:
/// calls in flight are then answered first, and a second signal ends the server at once.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES, after_help = "See --help for more, exit codes among it.")]
pub struct ServeCommand {
    #[command(flatten)]
    settings: Settings,
}

impl ServeCommand {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let settings = self.settings;
        let begin = Instant::now();
        let signals = stop_signals()?;
        let listener = server::listen(settings.grpc.listen).await?;
        let address = listener.local_addr()?;
        let announce = |model: load::Description| {
            let load::Description { model, device, dtype } = model;
            let seconds = begin.elapsed().as_secs_f64();
            // Whoever started the server may not be listening; it serves all the same.
            let _ = writeln!(
                std::io::stdout(),
                "blip-serve {} ready: grpc http://{address}, model {model}, device {device}, dtype {dtype}, \
                 loaded in {seconds:.2} s",
                env!("CARGO_PKG_VERSION"),
            );
        };
        server::serve(&settings, listener, load::load(&settings), signals, announce).await
    }
}
