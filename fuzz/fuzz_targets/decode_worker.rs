//! Fuzzes `blip_serve_fuzz::entries::decode_worker`. This program is also the worker.

#![no_main]

use blip_serve_fuzz::entries::decode_worker::{self, PROGRAM};
use blip_server::preprocess::decoding::{WORKER_COMMAND, worker_main};

/// The allocator of the server, by which a worker reports that its memory is used up.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

libfuzzer_sys::fuzz_target!(
    init: {
        if std::env::args().nth(1).is_some_and(|argument| argument == WORKER_COMMAND) {
            std::process::exit(i32::from(worker_main::run().is_err()));
        }
        PROGRAM.get_or_init(|| std::env::current_exe().unwrap());
    },
    |bytes: &[u8]| {
        blip_serve_fuzz::limits::run(decode_worker::decode_worker, bytes);
    }
);
