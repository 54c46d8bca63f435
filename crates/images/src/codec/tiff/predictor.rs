//! Restores samples that are stored as differences to their left neighbours.

use crate::{
    codec::tiff::{errors::unsupported, samples::SampleLayout},
    error::DecodeError,
};

const NONE: u64 = 1;
const HORIZONTAL: u64 = 2;
const FLOATING_POINT: u64 = 3;

/// Restores all rows of a strip or tile, each of `row_bytes` bytes.
pub(super) fn restore(
    predictor: u64,
    layout: &SampleLayout,
    cell: &mut [u8],
    row_bytes: usize,
) -> Result<(), DecodeError> {
    let rows = cell.chunks_exact_mut(row_bytes.max(1));
    match (predictor, layout.bits) {
        (NONE, _) => {}
        (HORIZONTAL, 8) => rows.for_each(|row| add_left::<1>(row, layout)),
        (HORIZONTAL, 16) => rows.for_each(|row| add_left::<2>(row, layout)),
        (HORIZONTAL, 32) => rows.for_each(|row| add_left::<4>(row, layout)),
        (FLOATING_POINT, 32) => rows.for_each(|row| restore_floats(row, layout)),
        (other, bits) => {
            return Err(unsupported(format_args!("predictor {other} of samples of {bits} bits")));
        }
    }
    Ok(())
}

/// Adds to each sample of `N` bytes that of the pixel on its left.
fn add_left<const N: usize>(row: &mut [u8], layout: &SampleLayout) {
    let little = layout.is_little_endian;
    let number = |bytes: [u8; N]| {
        let joined = |number: u32, byte: u8| number << 8 | u32::from(byte);
        if little { bytes.into_iter().rev().fold(0, joined) } else { bytes.into_iter().fold(0, joined) }
    };
    let mut left = [0u32; 8];
    for pixel in row.as_chunks_mut::<N>().0.chunks_mut(layout.samples.max(1)) {
        for (sample, left) in pixel.iter_mut().zip(&mut left) {
            *left = left.wrapping_add(number(*sample));
            for (n, byte) in sample.iter_mut().enumerate() {
                let place = if little { n } else { N - 1 - n };
                *byte = (*left >> (8 * place)) as u8;
            }
        }
    }
}

/// Restores a row whose most significant bytes come first, then all second bytes, and so on.
fn restore_floats(row: &mut [u8], layout: &SampleLayout) {
    let bytes = SampleLayout { bits: 8, ..*layout };
    add_left::<1>(row, &bytes);
    let planes = row.to_vec();
    let count = planes.len() / 4;
    for (n, number) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for (place, byte) in number.iter_mut().enumerate() {
            let plane = if layout.is_little_endian { 3 - place } else { place };
            *byte = planes.get(plane * count + n).copied().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bits: u8, samples: usize, is_little_endian: bool) -> SampleLayout {
        SampleLayout { bits, samples, planes: 1, is_little_endian }
    }

    #[test]
    fn differences_are_summed_for_each_sample() {
        let mut row = [1, 10, 1, 10, 255, 1];
        restore(HORIZONTAL, &layout(8, 2, true), &mut row, 6).unwrap();
        assert_eq!(row, [1, 10, 2, 20, 1, 21]);
    }

    #[test]
    fn sums_carry_in_the_byte_order_of_the_file() {
        for (is_little, bytes) in [(true, u16::to_le_bytes as fn(u16) -> [u8; 2]), (false, u16::to_be_bytes)]
        {
            let mut row = [200u16, 100, 65_300].map(bytes).concat();
            restore(HORIZONTAL, &layout(16, 1, is_little), &mut row, 6).unwrap();
            assert_eq!(row, [200u16, 300, 64].map(bytes).concat());
        }
    }

    #[test]
    fn rows_are_independent() {
        let mut rows = [1, 1, 1, 1];
        restore(HORIZONTAL, &layout(8, 1, true), &mut rows, 2).unwrap();
        assert_eq!(rows, [1, 2, 1, 2]);
    }
}
