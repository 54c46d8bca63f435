//! The program: everything is in the library.

use std::io::Write as _;

/// Answers are made on one thread and sent from another: glibc's allocator has them wait for each other. It stands in for
/// `malloc` as well: glibc gives the large tensors of every batch back to the kernel, which has to clear their pages for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let exit = blip_serve::cli::run();
    let _ = std::io::stdout().flush();
    // Without destructors: an engine that was not waited for may still be at work inside LibTorch, and must not see its
    // statics go.
    signal_hook::low_level::exit(i32::from(exit.code()))
}
