//! Malformed and oversized files return typed errors, without a panic or a large allocation.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::path::Path;

use images::{DecodeError, Decoder, Format, Limits};
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pillow")).join(name)).unwrap()
}

/// Returns all golden files with their names.
fn goldens() -> Vec<(String, Vec<u8>)> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pillow")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.ends_with(".json")).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), golden(&name))).collect()
}

/// Returns `file` with the bytes at offset `at` replaced by `value`.
fn patched(mut file: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    file[at..at + value.len()].copy_from_slice(value);
    file
}

/// Returns a PNG whose header declares this size, with a correct checksum.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let file = patched(golden("png_rgb_8.png"), 16, &width.to_be_bytes());
    let file = patched(file, 20, &height.to_be_bytes());
    let checksum = crc32(&file[12..29]);
    patched(file, 29, &checksum.to_be_bytes())
}

fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    });
    !crc
}

/// Returns one file of each format that declares 30,000 x 30,000 pixels.
///
/// WebP declares 16,383 x 16,383 pixels, the largest size of its header.
fn bombs() -> Vec<(Format, Vec<u8>)> {
    let big = 30_000u16;
    let jpeg = golden("jpeg_444_q75.jpeg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    let gif = patched(golden("gif_palette.gif"), 6, &[big.to_le_bytes(), big.to_le_bytes()].concat());
    let bmp = patched(
        golden("bmp_rgb.bmp"),
        18,
        &[u32::from(big).to_le_bytes(), u32::from(big).to_le_bytes()].concat(),
    );
    let webp = golden("webp_lossy_q50.webp");
    // The values of the directory entries 1, 2 and 8: width, height and rows per strip.
    let side = u32::from(big).to_le_bytes();
    let tiff =
        [18, 30, 102].iter().fold(golden("tiff_rgb_16_little.tiff"), |file, &at| patched(file, at, &side));
    vec![
        (Format::Png, png_claiming(big.into(), big.into())),
        (Format::Jpeg, patched(jpeg, frame + 5, &[big.to_be_bytes(), big.to_be_bytes()].concat())),
        (Format::WebP, patched(webp, 26, &[0xFF, 0x3F, 0xFF, 0x3F])),
        (Format::Gif, gif),
        (Format::Bmp, bmp),
        (Format::Tiff, tiff),
    ]
}

#[test]
fn declared_size_is_rejected_before_allocation() {
    // This memory budget would allow the allocation of the declared size, 2.7 GB.
    let decoder = Decoder::new(Limits { max_decode_bytes_in_flight: 1 << 40, ..Limits::default() });
    for (format, file) in bombs() {
        assert_eq!(Format::sniff(&file), Some(format));
        match decoder.decode(&file) {
            Err(DecodeError::TooManyPixels { width: 30_000, height: 30_000, limit: 25_000_000 }) => {}
            Err(DecodeError::TooManyPixels { width: 16_383, height: 16_383, limit: 25_000_000 }) => {
                assert_eq!(format, Format::WebP);
            }
            other => panic!("{format}: {other:?}"),
        }
    }
}

#[test]
fn long_side_is_rejected_for_a_small_area() {
    let error = Decoder::default().decode(&png_claiming(70_000, 1)).unwrap_err();
    assert_eq!(error, DecodeError::SideTooLong { width: 70_000, height: 1, limit: 65_535 });
}

#[test]
fn area_is_limited_for_allowed_sides() {
    let error = Decoder::default().decode(&png_claiming(16_000, 16_000)).unwrap_err();
    assert_eq!(error, DecodeError::TooManyPixels { width: 16_000, height: 16_000, limit: 25_000_000 });
}

#[test]
fn image_above_the_memory_budget_is_rejected() {
    let decoder = Decoder::new(Limits { max_decode_bytes_in_flight: 1000, ..Limits::default() });
    let error = decoder.decode(&golden("png_rgb_8.png")).unwrap_err();
    assert!(matches!(error, DecodeError::TooMuchMemory { needed, limit: 1000 } if needed > 23 * 17 * 3));
}

#[test]
fn memory_is_released_after_success_and_error() {
    let whole = golden("jpeg_444_q75.jpeg");
    let limited = |bytes| Decoder::new(Limits { max_decode_bytes_in_flight: bytes, ..Limits::default() });
    let Err(DecodeError::TooMuchMemory { needed, .. }) = limited(0).decode(&whole) else {
        panic!("decoded without memory")
    };
    let decoder = limited(needed);
    for _ in 0..4 {
        assert!(decoder.decode(&whole).is_ok());
        assert!(decoder.decode(&whole[..whole.len() / 2]).is_err());
    }
}

#[test]
fn empty_text_and_oversized_files_have_distinct_errors() {
    let decoder = Decoder::new(Limits { max_bytes: 10, ..Limits::default() });
    assert_eq!(decoder.decode(b""), Err(DecodeError::Empty));
    assert_eq!(decoder.decode(b"plain text"), Err(DecodeError::UnknownFormat));
    assert_eq!(decoder.decode(b"plain text!"), Err(DecodeError::TooManyBytes { bytes: 11, limit: 10 }));
    assert_eq!(decoder.decode(b"<svg"), Err(DecodeError::UnknownFormat));
}

#[test]
fn jpeg_cut_at_any_byte_is_truncated() {
    let decoder = Decoder::default();
    for name in ["jpeg_444_q75.jpeg", "jpeg_420_progressive.jpeg", "jpeg_cmyk.jpeg", "jpeg_grey.jpeg"] {
        let whole = golden(name);
        // From 3 bytes, the length of the signature, to all but the last byte of the end marker.
        for length in 3..whole.len() {
            let error = decoder.decode(&whole[..length]).unwrap_err();
            assert_eq!(error, DecodeError::Truncated { format: Format::Jpeg }, "{name} cut to {length}");
        }
    }
}

#[test]
fn file_cut_at_any_percent_is_rejected_or_complete() {
    let decoder = Decoder::default();
    for (name, whole) in goldens() {
        let full = decoder.decode(&whole);
        for percent in 0..100 {
            match decoder.decode(&whole[..whole.len() * percent / 100]) {
                // The missing part follows the pixels, such as PNG's last chunk or a second frame.
                Ok(image) => assert_eq!(Ok(image), full, "{name} at {percent} %"),
                Err(DecodeError::TooManyPixels { .. } | DecodeError::SideTooLong { .. }) => panic!("{name}"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn jpeg_with_too_many_scans_is_rejected() {
    let whole = golden("jpeg_420_progressive.jpeg");
    let scan = whole.windows(2).rposition(|marker| marker == [0xFF, 0xDA]).unwrap();
    let (head, last) = whole.split_at(scan);
    let last = &last[..last.len() - 2];
    let file = [head, &last.repeat(100), &[0xFF, 0xD9]].concat();
    let error = Decoder::default().decode(&file).unwrap_err();
    assert!(matches!(error, DecodeError::Unsupported { format: Format::Jpeg, .. }), "{error}");
}

proptest! {
    #[test]
    fn random_bytes_after_a_signature_never_panic(
        which in 0usize..6,
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let signatures: [&[u8]; 6] = [
            b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR", b"\xFF\xD8\xFF", b"RIFF\0\x10\0\0WEBPVP8 ",
            b"GIF89a", b"BM", b"II*\0\x08\0\0\0",
        ];
        let _ = Decoder::default().decode(&[signatures[which], &bytes].concat());
    }

    #[test]
    fn damaged_files_never_panic(
        which in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let all = goldens();
        let (_, mut file) = which.get(&all).clone();
        for (at, value) in damage {
            let at = at.index(file.len());
            file[at] = value;
        }
        // A damaged header may declare a large size, which the default limits would allocate.
        let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
        let _ = Decoder::new(limits).decode(&file);
    }
}
