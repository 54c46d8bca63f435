//! The blip-serve program: the server and its client commands.
//!
//! [`args`] parses the command line and runs a subcommand of [`commands`]. `serve` starts the
//! `server` crate. A client command turns images, texts or a record file into records. A task of
//! [`records`] sends them to the [`target`], a running server or an engine in this process,
//! and returns results. [`output`] prints the results,
//! or the `bulk` crate writes them to a file.
//!
//! Modules are listed from top to bottom; each uses only modules below it.

mod args;
mod commands;
mod target;
mod local;
mod image_paths;
mod output;
mod records;
mod connection;
mod decode_worker;
mod request_args;
mod settings;
mod embedded_models;
mod messages;
mod signals;
mod version;

use std::io::Write as _;

/// The allocator of the program, which also replaces `malloc` for LibTorch.
///
/// One thread allocates a result and another thread frees it. The allocator of glibc contends for
/// a lock then. It also returns the large tensors of a batch to the kernel, which clears their
/// pages for the next batch.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let exit = args::run();
    let _ = std::io::stdout().flush();
    // Runs no destructors: an engine that is still inside LibTorch needs LibTorch's statics.
    signal_hook::low_level::exit(i32::from(exit.code()))
}
