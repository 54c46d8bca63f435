//! The blip-serve program: the server and its client commands.
//!
//! [`args`] parses the command line and runs a subcommand of [`commands`]. `serve` starts the `server` crate. The client
//! commands turn files, folders or record files into records. A task of [`records`] sends them to a running server and
//! returns results, which [`output`] prints or `bulk` writes to a file.
//!
//! Modules are listed from top to bottom. Each uses only modules below it.

mod args;
mod commands;
mod connection;
mod embedded_models;
mod request_args;
mod image_paths;
mod output;
mod records;
mod settings;
mod signals;
mod version;

use std::io::Write as _;

/// Results are computed on one thread and sent by another, where glibc's allocator contends for a lock. The allocator also
/// replaces `malloc`, because glibc returns the large tensors of a batch to the kernel, which clears their pages for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let exit = args::run();
    let _ = std::io::stdout().flush();
    // Ends without destructors: an engine that is still inside LibTorch must not see its statics go.
    signal_hook::low_level::exit(i32::from(exit.code()))
}
