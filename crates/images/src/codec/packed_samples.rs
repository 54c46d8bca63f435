//! Unpacks rows with samples narrower than a byte, most significant bits first.

/// Returns the first `width` samples of `row`, each of `bits` (1, 2, 4 or 8) bits.
pub(crate) fn samples(row: &[u8], bits: u8, width: usize) -> impl Iterator<Item = u8> {
    let per_byte = 8 / bits;
    let mask = u8::MAX >> (8 - bits);
    row.iter().flat_map(move |&byte| (1..=per_byte).map(move |n| (byte >> (8 - n * bits)) & mask)).take(width)
}

/// Returns the factor that scales a grey sample of `bits` bits to 0..=255, as in Pillow.
pub(crate) fn grey_scale(bits: u8) -> u8 {
    u8::MAX / (u8::MAX >> (8 - bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_most_significant_first_up_to_width() {
        assert_eq!(
            samples(&[0b1010_0000, 0b1000_0000], 1, 9).collect::<Vec<_>>(),
            [1, 0, 1, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(samples(&[0b1101_0010], 2, 4).collect::<Vec<_>>(), [3, 1, 0, 2]);
        assert_eq!(samples(&[0xA5, 7], 8, 2).collect::<Vec<_>>(), [0xA5, 7]);
    }

    #[test]
    fn largest_sample_scales_to_white() {
        assert_eq!([1, 2, 4, 8].map(grey_scale), [255, 85, 17, 1]);
    }
}
