//! Any bytes as an image. Seeds: `crates/images/tests/pillow`, where every format and mode is.
//!
//! `cargo fuzz run -s none decode_image fuzz/corpus/decode_image crates/images/tests/pillow`

#![no_main]

use images::{Decoder, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Small, so that what is accepted is decoded often rather than long.
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    if let Ok(image) = Decoder::new(limits).decode(bytes) {
        assert_eq!(image.data.len() as u64, u64::from(image.width) * u64::from(image.height) * 3);
    }
});
