//! The two passes of Pillow's `resize`, each in 8 bits.

use super::taps::Taps;
use super::{Pixels, RgbView, vectorised};

/// `image` scaled by `across` and then by `down`, whose inputs are its width and height.
pub(super) fn resize(image: RgbView<'_>, across: &Taps, down: &Taps) -> Pixels {
    let narrowed;
    let mut rows = image.data();
    if !across.is_identity() {
        narrowed = vectorised::horizontal(rows, across);
        rows = &narrowed;
    }
    let data =
        if down.is_identity() { rows.to_vec() } else { vectorised::vertical(rows, across.output, down) };
    Pixels::of_resize(down.output, across.output, data)
}
