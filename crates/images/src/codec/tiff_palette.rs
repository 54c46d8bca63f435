//! Decodes palette TIFFs through the `tiff` crate, which does not support them.
//!
//! The crate reads the indices when the file declares them as grey levels.

use std::borrow::Cow;

const PHOTOMETRIC_INTERPRETATION: u16 = 262;
const BLACK_IS_ZERO: u16 = 1;
const RGB_PALETTE: u16 = 3;

/// Returns the file with palette indices declared as grey levels, and whether it was changed.
///
/// Only one tag of the first page changes. Its colour map remains for [`colours`]. A 64-bit ("big")
/// TIFF is returned unchanged.
pub(crate) fn with_indices_as_grey(file: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let Some(at) = palette_tag(file) else { return (Cow::Borrowed(file), false) };
    let little = file.starts_with(b"II");
    let mut copy = file.to_vec();
    if let Some(value) = copy.get_mut(at..at + 2) {
        value.copy_from_slice(&if little {
            BLACK_IS_ZERO.to_le_bytes()
        } else {
            BLACK_IS_ZERO.to_be_bytes()
        });
    }
    (Cow::Owned(copy), true)
}

/// Returns the offset of the first page's photometric interpretation, if it is that of a palette.
fn palette_tag(file: &[u8]) -> Option<usize> {
    let little = file.starts_with(b"II");
    let word = |at: usize| {
        let bytes = *file.get(at..at.checked_add(2)?)?.as_array()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let double = |at: usize| {
        let bytes = *file.get(at..at.checked_add(4)?)?.as_array()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = double(4)? as usize;
    let entries = usize::from(word(directory)?);
    let tags = (0..entries).map(|n| directory + 2 + 12 * n);
    let entry = tags.into_iter().find(|&at| word(at) == Some(PHOTOMETRIC_INTERPRETATION))?;
    (word(entry + 8)? == RGB_PALETTE).then_some(entry + 8)
}

/// Converts a colour map to RGB triples.
///
/// The map contains `colours` reds, then as many greens, then as many blues, 16 bits each. Returns
/// `None` if it has another length.
pub(crate) fn colours(map: &[u16], colours: usize) -> Option<Vec<u8>> {
    if map.len() != 3 * colours {
        return None;
    }
    let (reds, others) = map.split_at(colours);
    let (greens, blues) = others.split_at(colours);
    let triples = reds.iter().zip(greens).zip(blues);
    Some(triples.flat_map(|((r, g), b)| [r, g, b].map(|v| (v >> 8) as u8)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(photometric: u16) -> Vec<u8> {
        let mut file = b"II*\0\x08\0\0\0\x01\0".to_vec();
        for word in [262, 3, 1, 0, photometric, 0] {
            file.extend(word.to_le_bytes());
        }
        file
    }

    #[test]
    fn only_palette_files_are_declared_grey() {
        assert_eq!(with_indices_as_grey(&page(3)), (Cow::Owned(page(1)), true));
        assert_eq!(with_indices_as_grey(&page(2)), (Cow::Owned(page(2)), false));
    }

    #[test]
    fn directory_outside_the_file_is_unchanged() {
        for file in [&b"II*\0"[..], b"II*\0\xFF\xFF\xFF\xFF", b"MM\0*\0\0\0\x08\xFF\xFF"] {
            assert!(!with_indices_as_grey(file).1);
        }
    }

    #[test]
    fn colour_map_is_transposed_to_rgb_triples() {
        let map = [0x0100, 0x0200, 0x0300, 0x0400, 0x0500, 0x06FF];
        assert_eq!(colours(&map, 2), Some(vec![1, 3, 5, 2, 4, 6]));
        assert_eq!(colours(&map, 4), None);
    }
}
