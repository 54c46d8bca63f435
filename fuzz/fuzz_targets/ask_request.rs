//! Fuzzes `blip_serve_fuzz::ask_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    blip_serve_fuzz::ask_request(bytes);
});
