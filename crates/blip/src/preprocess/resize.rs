//! The two passes of Pillow's `resize`, each in 8 bits, interleaved by rows.

use crate::preprocess::{
    passes::{HorizontalPass, vertical_pass},
    pixels::{Pixels, RgbView},
    taps::Taps,
};

/// Scales `image` by `horizontal` and then by `vertical`. Their input lengths are its width and
/// height.
pub(super) fn resize(image: RgbView<'_>, horizontal: &Taps, vertical: &Taps) -> Pixels {
    let mut data = vec![0; 3 * vertical.output * horizontal.output];
    resize_into(image, horizontal, vertical, &mut data);
    Pixels::of_resize(vertical.output, horizontal.output, data)
}

/// Scales like [`resize`], and writes the samples to `data`, which has their length.
pub(super) fn resize_into(image: RgbView<'_>, horizontal: &Taps, vertical: &Taps, data: &mut [u8]) {
    let rows: Vec<&[u8]> = image.data().chunks_exact(3 * image.width()).collect();
    let line = 3 * horizontal.output;
    match (horizontal.is_identity(), vertical.is_identity()) {
        (true, true) => data.copy_from_slice(image.data()),
        (true, false) => vertical_only(&rows, vertical, data.chunks_exact_mut(line)),
        (false, true) => {
            let mut horizontal = HorizontalPass::new(horizontal);
            rows.iter().zip(data.chunks_exact_mut(line)).for_each(|(row, out)| horizontal.scale(row, out));
        }
        (false, false) => both(&rows, horizontal, vertical, data.chunks_exact_mut(line)),
    }
}

fn vertical_only<'a>(rows: &[&[u8]], taps: &Taps, out: impl Iterator<Item = &'a mut [u8]>) {
    for ((out, &start), weights) in out.zip(&taps.starts).zip(taps.weights.chunks_exact(taps.count)) {
        vertical_pass(rows.get(start..).unwrap_or_default(), weights, out);
    }
}

/// Scales in both directions. Between the passes, the function stores only the rows that the
/// vertical pass reads next. These few kilobytes stay in the L1 cache. All rows together have half
/// a megabyte.
fn both<'a>(rows: &[&[u8]], horizontal: &Taps, taps: &Taps, out: impl Iterator<Item = &'a mut [u8]>) {
    let line = 3 * horizontal.output;
    let mut horizontal = HorizontalPass::new(horizontal);
    let mut window_rows = vec![0; taps.count * line];
    let mut next = 0;
    for ((out, &start), weights) in out.zip(&taps.starts).zip(taps.weights.chunks_exact(taps.count)) {
        next = next.max(start);
        // Row n is at place n modulo `taps.count`. It replaces a row that is no longer read.
        for (number, row) in rows.iter().enumerate().take(start + taps.count).skip(next) {
            if let Some(place) = window_rows.chunks_exact_mut(line).nth(number % taps.count) {
                horizontal.scale(row, place);
            }
        }
        next = start + taps.count;
        let (newer, older) = window_rows.split_at(start % taps.count * line);
        let window: Vec<&[u8]> = older.chunks_exact(line).chain(newer.chunks_exact(line)).collect();
        vertical_pass(&window, weights, out);
    }
}
