//! See `blip_serve_fuzz::card_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    blip_serve_fuzz::card_json(bytes);
});
