//! Fuzzes `blip_serve_fuzz::entries::tokenizer_files`.

#![no_main]

use blip_serve_fuzz::{entries, limits};

libfuzzer_sys::fuzz_target!(
    init: {
        // The hook of the fuzzer aborts on caught panics, too. Others still end the target.
        std::panic::set_hook(Box::new(|panic| {
            if !entries::is_caught(panic) {
                eprintln!("{panic}");
            }
        }));
    },
    |bytes: &[u8]| {
        limits::run(entries::tokenizer_files, bytes);
    }
);
