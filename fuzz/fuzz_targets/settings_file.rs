//! Fuzzes `blip_serve_fuzz::settings_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    blip_serve_fuzz::settings_file(bytes);
});
