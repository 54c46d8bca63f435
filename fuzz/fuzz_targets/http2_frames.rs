//! Fuzzes `blip_serve_fuzz::entries::http2_frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    blip_serve_fuzz::limits::run(blip_serve_fuzz::entries::http2_frames, bytes);
});
