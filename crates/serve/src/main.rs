//! The program: everything is in the library.

use std::process::ExitCode;

use blip_serve::{cli, exit::Exit};

fn main() -> ExitCode {
    let exit = cli::run();
    match exit {
        Exit::Clean | Exit::Failed | Exit::Usage => ExitCode::from(exit.code()),
        // An engine thread may still be at work inside LibTorch: its destructors must not run under it.
        _ => signal_hook::low_level::exit(i32::from(exit.code())),
    }
}
