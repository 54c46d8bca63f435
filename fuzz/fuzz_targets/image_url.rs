//! Fuzzes `blip_serve_fuzz::entries::image_url`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    blip_serve_fuzz::limits::run(blip_serve_fuzz::entries::image_url, bytes);
});
