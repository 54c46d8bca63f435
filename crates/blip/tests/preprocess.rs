//! Compares resized pixels with those of Pillow, to the bit, for a grid of sizes.
//!
//! `tests/reference/generate/pillow_goldens.py` writes the expected pixels. It generates the same
//! input images.

use blip::preprocess::{Filter, Preprocessor, PreprocessorConfig, RgbView};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    seed: u32,
    from: [usize; 2],
    to: [usize; 2],
    filter: String,
    filter_number: i64,
    input_sha256: String,
    sha256: String,
    pixels: Option<String>,
}

/// Returns the input image of the golden script: xorshift noise over gradients and blocks.
fn pattern([width, height]: [usize; 2], seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let noise = |shift: u32, mask: u32| ((state >> shift) & mask) as usize;
            let block = if (x / 7 + y / 5) % 2 == 1 { 255 } else { 0 };
            let pixel = [x * 3 + noise(0, 31), y * 5 + noise(8, 31), block ^ noise(16, 63)];
            data.extend(pixel.map(|sample| (sample % 256) as u8));
        }
    }
    data
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn resize_equals_pillow_to_the_bit_at_every_size() {
    let json = include_str!("pillow/resize.json");
    let goldens: Goldens = serde_json::from_str(json).unwrap();
    assert!(goldens.cases.len() >= 150);
    for case in goldens.cases {
        let [width, height] = case.to;
        let filter = Filter::from_pillow(case.filter_number).unwrap();
        let preprocessor =
            Preprocessor::new(PreprocessorConfig { width, height, filter, ..Default::default() });
        let input = pattern(case.from, case.seed);
        let name = format!("{:?} to {:?}, {}", case.from, case.to, case.filter);
        assert_eq!(hex(&Sha256::digest(&input)), case.input_sha256, "input of {name}");
        let pixels = preprocessor.resize(RgbView::new(case.from[0], case.from[1], &input).unwrap());
        if let Some(expected) = case.pixels {
            assert_eq!(hex(pixels.data()), expected, "{name}");
        }
        assert_eq!(hex(&Sha256::digest(pixels.data())), case.sha256, "{name}");
        assert_eq!((pixels.width(), pixels.height()), (width, height));
    }
}
