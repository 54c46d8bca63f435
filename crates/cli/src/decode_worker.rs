//! `blip-serve decode-worker`, which only a server runs, also one inside a client command.

use std::path::Path;

use blip_server::serve::exit::Exit;

/// The program that runs, even after its file was replaced. Decode workers run the same version.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Decodes the images of a server, and ends with it.
///
/// The process has no other threads than this one, so the command runs without a runtime.
pub(crate) fn run() -> anyhow::Result<Exit> {
    #[cfg(target_os = "linux")]
    blip_server::preprocess::decoding::worker_main::run()?;
    Ok(Exit::Clean)
}

/// Returns the program of decode workers, or `None` where this system does not show it.
pub(crate) fn worker_program() -> Option<&'static Path> {
    let program = Path::new(THIS_PROGRAM);
    let exists = program.exists();
    if !exists {
        tracing::warn!(path = THIS_PROGRAM, "images are decoded on threads: program not found");
    }
    exists.then_some(program)
}
