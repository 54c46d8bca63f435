//! Compares decoded pixels with those of Pillow 12.3, for every format and mode.
//!
//! `tests/reference/generate/pillow_goldens.py` writes the files and their expected pixels.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;

use images::{Decoder, RgbImage};
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    mode: String,
    width: u32,
    height: u32,
    rgb: String,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(folder().join(&self.file)).unwrap()
    }

    fn expected(&self) -> Vec<u8> {
        let digits = self.rgb.as_bytes().as_chunks::<2>().0;
        digits.iter().map(|&pair| u8::from_str_radix(str::from_utf8(&pair).unwrap(), 16).unwrap()).collect()
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pillow"))
}

fn cases(prefix: &str) -> Vec<Case> {
    let goldens: Goldens =
        serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let cases: Vec<_> = goldens.cases.into_iter().filter(|case| case.file.starts_with(prefix)).collect();
    assert!(cases.len() >= 10, "{} cases of {prefix}", cases.len());
    cases
}

/// Describes each file of `prefix` whose pixels differ from Pillow's.
fn differences(prefix: &str) -> Vec<String> {
    let decoder = Decoder::default();
    let mut found = Vec::new();
    for case in cases(prefix) {
        let expected = case.expected();
        match decoder.decode(&case.bytes()) {
            Err(error) => found.push(format!("{} ({}): {error}", case.file, case.mode)),
            Ok(RgbImage { width, height, .. }) if (width, height) != (case.width, case.height) => {
                found
                    .push(format!("{}: {width} x {height}, not {} x {}", case.file, case.width, case.height));
            }
            Ok(image) => {
                let gaps =
                    image.data.iter().zip(&expected).map(|(actual, expected)| actual.abs_diff(*expected));
                let (largest, differing) =
                    gaps.fold((0, 0), |(max, n), gap| (gap.max(max), n + u32::from(gap > 0)));
                if image.data.len() != expected.len() || largest > 0 {
                    let all = expected.len();
                    found.push(format!(
                        "{} ({}): {differing} of {all} differ by up to {largest}",
                        case.file, case.mode
                    ));
                }
            }
        }
    }
    found
}

#[test]
fn png_equals_pillow() {
    assert_eq!(differences("png"), [""; 0]);
}

#[test]
fn jpeg_equals_pillow() {
    assert_eq!(differences("jpeg"), [""; 0]);
}

#[test]
fn webp_equals_pillow() {
    assert_eq!(differences("webp"), [""; 0]);
}

#[test]
fn gif_equals_pillow() {
    assert_eq!(differences("gif"), [""; 0]);
}

#[test]
fn bmp_equals_pillow() {
    assert_eq!(differences("bmp"), [""; 0]);
}

#[test]
fn tiff_equals_pillow() {
    assert_eq!(differences("tiff"), [""; 0]);
}
