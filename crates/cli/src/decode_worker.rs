//! `blip-serve decode-worker`, which only the server runs.

use blip_server::serve::exit::Exit;

/// Decodes the images of a server, and ends with it.
///
/// The process has no other threads than this one, so the command runs without a runtime.
pub(crate) fn run() -> anyhow::Result<Exit> {
    #[cfg(target_os = "linux")]
    blip_server::preprocess::decoding::worker_main::run()?;
    Ok(Exit::Clean)
}
