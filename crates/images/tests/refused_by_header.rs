//! Files whose decoding would cost far more than their size are refused by their headers.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod costly;

use std::io::Write as _;

use costly::{
    animated_webp_of_many_groups, flat_jpeg, flat_webp, jpeg_of_hidden_scans, tiff, webp_of_many_groups,
};
use images::{DecodeError, Decoder, Limits};

const JPEG: u32 = 7;
const DEFLATE: u32 = 8;
const LZW: u32 = 5;

fn refusal(file: &[u8]) -> String {
    Decoder::default().decode(file).unwrap_err().to_string()
}

/// Returns the memory that is reserved for a file.
fn reserved(file: &[u8]) -> u64 {
    let limits = Limits { max_decode_bytes_in_flight: 0, ..Limits::default() };
    match Decoder::new(limits).decode(file) {
        Err(DecodeError::TooMuchMemory { needed, .. }) => needed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tiff_strip_with_a_larger_jpeg_is_refused() {
    for components in [1, 3, 4] {
        let jpeg = flat_jpeg(0xC0, (16_384, 16_384), components);
        let file = tiff((16, 16), &jpeg[..300], 16, JPEG, components.into(), None);
        assert!(refusal(&file).contains("16384 x 16384 pixels"), "{}", refusal(&file));
    }
}

#[test]
fn tiff_strip_with_a_smaller_jpeg_is_refused() {
    let file = tiff((16, 16), &flat_jpeg(0xC0, (8, 8), 1), 16, JPEG, 1, None);
    assert!(refusal(&file).contains("8 x 8 pixels"));
}

#[test]
fn tiff_strip_with_a_progressive_jpeg_is_refused() {
    let file = tiff((16, 16), &flat_jpeg(0xC2, (16, 16), 1), 16, JPEG, 1, None);
    assert!(refusal(&file).contains("progressive"));
}

#[test]
fn tiff_strip_with_its_jpeg_is_decoded() {
    let file = tiff((16, 40), &flat_jpeg(0xC0, (16, 8), 3), 8, JPEG, 3, None);
    assert_eq!(Decoder::default().decode(&file).unwrap().data, [128; 16 * 40 * 3]);
}

#[test]
fn tiff_of_too_many_jpegs_is_refused() {
    let file = tiff((1, 20_000), &flat_jpeg(0xC0, (1, 1), 1), 1, JPEG, 1, None);
    assert!(refusal(&file).contains("20000 JPEG files, at most 16384 allowed"));
}

#[test]
fn tiff_strips_that_share_much_data_are_refused() {
    // Stored blocks without bytes: data that never fill a strip.
    let empty_blocks = [&[0x78, 1][..], &[0, 0, 0, 0xFF, 0xFF].repeat(20_000)].concat();
    for compression in [DEFLATE, LZW] {
        let file = tiff((8, 10_000), &empty_blocks, 1, compression, 1, None);
        assert!(refusal(&file).contains("strips or tiles of 1000020000 bytes"), "{}", refusal(&file));
    }
}

#[test]
fn tiff_strip_that_expands_further_is_cut() {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&[7; 1 << 20]).unwrap();
    let file = tiff((8, 1), &encoder.finish().unwrap(), 1, DEFLATE, 1, None);
    assert_eq!(Decoder::default().decode(&file).unwrap().data, [7; 24]);
    assert!(reserved(&file) < 1 << 10);
}

#[test]
fn tiff_tile_larger_than_the_image_is_reserved() {
    let file = tiff((16, 16), &[0; 64], 0, DEFLATE, 3, Some((8192, 8192)));
    assert!(reserved(&file) > 3 * 8192 * 8192);
    for compression in [DEFLATE, JPEG] {
        let huge = tiff((16, 16), &[0; 64], 0, compression, 3, Some((u32::MAX, u32::MAX)));
        assert!(matches!(Decoder::default().decode(&huge), Err(DecodeError::TooMuchMemory { .. })));
    }
}

#[test]
fn jpeg_with_hidden_scans_is_refused() {
    let error = refusal(&jpeg_of_hidden_scans(1000));
    assert_eq!(error, "unsupported JPEG image: more than 64 scans");
}

#[test]
fn progressive_jpeg_of_one_scan_reserves_coefficients() {
    let (sequential, progressive) = (flat_jpeg(0xC0, (512, 512), 3), flat_jpeg(0xC2, (512, 512), 3));
    assert!(Decoder::default().decode(&progressive).is_ok());
    assert_eq!(reserved(&progressive) - reserved(&sequential), 2 * 3 * 512 * 512);
}

#[test]
fn webp_reserves_the_tables_of_its_huffman_codes() {
    let groups = 200;
    // Five tables of 1,024 entries of 4 bytes.
    let tables = u64::from(groups) * 5 * 1024 * 4;
    let limited = Decoder::new(Limits { max_decode_bytes_in_flight: tables, ..Limits::default() });
    for file in [webp_of_many_groups(groups), animated_webp_of_many_groups(groups)] {
        assert_eq!(Decoder::default().decode(&file).unwrap().width, 4);
        let error = limited.decode(&file).unwrap_err();
        assert!(matches!(error, DecodeError::TooMuchMemory { needed, .. } if needed > tables), "{error}");
    }
}

#[test]
fn webp_with_too_many_huffman_codes_is_refused() {
    for file in [webp_of_many_groups(20_000), animated_webp_of_many_groups(20_000)] {
        let error = Decoder::default().decode(&file).unwrap_err();
        assert!(matches!(error, DecodeError::TooMuchMemory { needed, .. } if needed > 256 << 20), "{error}");
    }
}

#[test]
fn webp_of_equal_pixels_reserves_pixels_only() {
    let side = 1000;
    let pixels = u64::from(side) * u64::from(side);
    let reserved = reserved(&flat_webp(side));
    assert!((8 * pixels..8 * pixels + 100_000).contains(&reserved), "{reserved}");
}
