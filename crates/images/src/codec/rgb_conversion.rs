//! Converts pixels of other modes to RGB, by the rules of Pillow's `convert("RGB")`.
//!
//! Tests compare the results with files that Pillow wrote.

/// Appends grey levels, each as three equal samples.
pub(crate) fn push_grey(out: &mut Vec<u8>, grey: impl Iterator<Item = u8>) {
    out.extend(grey.flat_map(|v| [v, v, v]));
}

/// Appends 16-bit grey levels, clipped at 255 and not scaled, as Pillow converts `I;16`.
pub(crate) fn push_grey16(out: &mut Vec<u8>, grey: impl Iterator<Item = u16>) {
    push_grey(out, grey.map(|v| u8::try_from(v).unwrap_or(u8::MAX)));
}

/// Appends the first three of the `N` samples of each pixel. Alpha is dropped, not composited.
pub(crate) fn push_first_three<const N: usize>(out: &mut Vec<u8>, pixels: &[u8]) {
    const { assert!(N >= 3) };
    out.extend(pixels.as_chunks::<N>().0.iter().flat_map(|p| [p[0], p[1], p[2]]));
}

/// Appends the colours of `indices` in a palette of RGB triples. An index past its end is black.
pub(crate) fn push_palette(out: &mut Vec<u8>, palette: &[u8], indices: impl Iterator<Item = u8>) {
    let colours = palette.as_chunks::<3>().0;
    out.extend(indices.flat_map(|i| colours.get(usize::from(i)).copied().unwrap_or([0; 3])));
}

/// Appends pixels of cyan, magenta, yellow and key, each 255 at full ink.
pub(crate) fn push_cmyk(out: &mut Vec<u8>, pixels: impl Iterator<Item = [u8; 4]>) {
    out.extend(pixels.flat_map(|[c, m, y, k]| {
        let white = u8::MAX - k;
        [c, m, y].map(|ink| white - scaled(ink, white))
    }));
}

/// Returns `round(a * b / 255)`, in Pillow's integer form.
fn scaled(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    // At most 255: the product is at most 255 * 255 + 128.
    (((product >> 8) + product) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_equals_rounded_quotient_for_every_pair() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let exact = (f64::from(a) * f64::from(b) / 255.0).round();
                assert_eq!(f64::from(scaled(a, b)), exact, "{a} {b}");
            }
        }
    }

    #[test]
    fn palette_index_past_the_end_is_black() {
        let mut out = Vec::new();
        push_palette(&mut out, &[9, 8, 7], [0, 1].into_iter());
        assert_eq!(out, [9, 8, 7, 0, 0, 0]);
    }

    #[test]
    fn grey16_is_clipped_at_255() {
        let mut out = Vec::new();
        push_grey16(&mut out, [0, 128, 255, 256, 65_535].into_iter());
        assert_eq!(out.as_chunks::<3>().0.iter().map(|p| p[0]).collect::<Vec<_>>(), [0, 128, 255, 255, 255]);
    }
}
