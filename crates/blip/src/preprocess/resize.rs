//! The two passes of Pillow's `resize`, each in 8 bits, interleaved row by row.

use crate::preprocess::{
    passes::{Across, down},
    pixels::{Pixels, RgbView},
    taps::Taps,
};

/// `image` scaled by `across` and then by `down`, whose inputs are its width and height.
pub(super) fn resize(image: RgbView<'_>, across: &Taps, down: &Taps) -> Pixels {
    let rows: Vec<&[u8]> = image.data().chunks_exact(3 * image.width()).collect();
    let line = 3 * across.output;
    let mut data = vec![0; down.output * line];
    match (across.is_identity(), down.is_identity()) {
        (true, true) => data.copy_from_slice(image.data()),
        (true, false) => only_down(&rows, down, data.chunks_exact_mut(line)),
        (false, true) => {
            let mut across = Across::new(across);
            rows.iter().zip(data.chunks_exact_mut(line)).for_each(|(row, out)| across.scale(row, out));
        }
        (false, false) => both(&rows, across, down, data.chunks_exact_mut(line)),
    }
    Pixels::of_resize(down.output, across.output, data)
}

fn only_down<'a>(rows: &[&[u8]], taps: &Taps, out: impl Iterator<Item = &'a mut [u8]>) {
    for ((out, &start), weights) in out.zip(&taps.starts).zip(taps.weights.chunks_exact(taps.count)) {
        down(rows.get(start..).unwrap_or_default(), weights, out);
    }
}

/// Only the rows that the vertical pass looks at next are kept between the passes: a few kilobytes,
/// which never leave the nearest cache, where the whole of them would be half a megabyte.
fn both<'a>(rows: &[&[u8]], across: &Taps, taps: &Taps, out: impl Iterator<Item = &'a mut [u8]>) {
    let line = 3 * across.output;
    let mut across = Across::new(across);
    let mut kept = vec![0; taps.count * line];
    let mut next = 0;
    for ((out, &start), weights) in out.zip(&taps.starts).zip(taps.weights.chunks_exact(taps.count)) {
        next = next.max(start);
        // Row n is kept in place n modulo the number kept, over one that is no longer looked at.
        for (number, row) in rows.iter().enumerate().take(start + taps.count).skip(next) {
            if let Some(place) = kept.chunks_exact_mut(line).nth(number % taps.count) {
                across.scale(row, place);
            }
        }
        next = start + taps.count;
        let (newer, older) = kept.split_at(start % taps.count * line);
        let window: Vec<&[u8]> = older.chunks_exact(line).chain(newer.chunks_exact(line)).collect();
        down(&window, weights, out);
    }
}
