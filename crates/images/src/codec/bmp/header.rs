//! Repairs headers that the decoder of the `image` crate rejects or reads in another way.
//!
//! The reference is more lenient:
//!
//! - The offset of the pixels may be 0, or that of the palette. The pixels then follow the palette.
//! - The header of OS/2 version 2 has 64 bytes, of which the first 40 are those of Windows.
//! - The header of version 1, with 12 bytes, may have pixels of 16 and 32 bits.
//! - The number of planes is ignored, and a palette may have more colours than the depth allows.

use std::borrow::Cow;

const FILE_HEADER: usize = 14;
const CORE_HEADER: usize = 12;
const INFO_HEADER: usize = 40;
const OS2_HEADER: usize = 64;
const MASKS: usize = 12;
const BITFIELDS: u32 = 3;

/// The positions of the fields that are repaired, in the 40 bytes of the Windows header.
const OFFSET_AT: usize = 10;
const PLANES_AT: usize = 26;
const COLOURS_AT: usize = 46;

/// Returns the file with a header that the decoder reads as the reference does.
pub(super) fn repaired(file: &[u8]) -> Cow<'_, [u8]> {
    let repaired = parse(file).and_then(|header| header.repair(file));
    repaired.map_or(Cow::Borrowed(file), Cow::Owned)
}

struct Header {
    size: usize,
    planes: u16,
    bits: u16,
    compression: u32,
    /// The offset of the pixels.
    offset: usize,
    /// The colours of the palette. 0 for all that the depth allows.
    colours: usize,
}

fn parse(file: &[u8]) -> Option<Header> {
    let word = |at: usize| Some(u16::from_le_bytes(*file.get(at..at + 2)?.as_array()?));
    let double = |at: usize| Some(u32::from_le_bytes(*file.get(at..at + 4)?.as_array()?));
    let (size, offset) = (double(FILE_HEADER)? as usize, double(OFFSET_AT)? as usize);
    if size == CORE_HEADER {
        return Some(Header { size, planes: word(22)?, bits: word(24)?, compression: 0, offset, colours: 0 });
    }
    let (planes, bits, compression) = (word(PLANES_AT)?, word(28)?, double(30)?);
    Some(Header { size, planes, bits, compression, offset, colours: double(COLOURS_AT)? as usize })
}

impl Header {
    /// Returns a repaired copy of the file, or `None` if nothing is to repair.
    fn repair(&self, file: &[u8]) -> Option<Vec<u8>> {
        let all_colours = 1usize.checked_shl(self.bits.into()).filter(|_| self.bits <= 8).unwrap_or(0);
        let stored = if self.colours == 0 { all_colours } else { self.colours };
        let is_core = self.size == CORE_HEADER;
        let palette = if all_colours == 0 { 0 } else { stored.checked_mul(if is_core { 3 } else { 4 })? };
        let header_end = FILE_HEADER + self.size;
        let masks = if self.size == INFO_HEADER && self.compression == BITFIELDS { MASKS } else { 0 };
        let mut offset = match self.offset {
            0 => header_end + masks + palette,
            at if at == header_end => header_end + palette,
            at => at,
        };
        let is_os2 = self.size == OS2_HEADER && self.compression < BITFIELDS;
        let is_deep_core = is_core && matches!(self.bits, 16 | 32);
        let colours = self.colours.min(all_colours);
        let has_more_colours = all_colours > 0 && colours < self.colours;
        if offset == self.offset && !is_os2 && !is_deep_core && !has_more_colours && self.planes == 1 {
            return None;
        }
        let mut copy;
        if is_os2 {
            copy = [file.get(..FILE_HEADER + INFO_HEADER)?, file.get(header_end..)?].concat();
            replace(&mut copy, FILE_HEADER, &(INFO_HEADER as u32).to_le_bytes())?;
            offset = offset.checked_sub(OS2_HEADER - INFO_HEADER)?;
        } else if is_deep_core {
            let word = |at: usize| Some([*file.get(at)?, *file.get(at + 1)?, 0, 0]);
            let mut header = [(INFO_HEADER as u32).to_le_bytes(), word(18)?, word(20)?].concat();
            header.extend(file.get(22..26)?);
            header.resize(INFO_HEADER, 0);
            copy = [file.get(..FILE_HEADER)?, &header, file.get(header_end..)?].concat();
            offset = offset.checked_add(INFO_HEADER - CORE_HEADER)?;
        } else {
            copy = file.to_vec();
        }
        replace(&mut copy, OFFSET_AT, &u32::try_from(offset).ok()?.to_le_bytes())?;
        replace(&mut copy, if is_core && !is_deep_core { 22 } else { PLANES_AT }, &1u16.to_le_bytes())?;
        if has_more_colours {
            replace(&mut copy, COLOURS_AT, &(colours as u32).to_le_bytes())?;
        }
        Some(copy)
    }
}

fn replace(file: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    file.get_mut(at..at + value.len())?.copy_from_slice(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a header with these fields, and a palette and pixels of some bytes.
    fn file(size: u32, offset: u32, bits: u16, colours: u32) -> Vec<u8> {
        let mut file = vec![0; 14 + size as usize + 2000];
        replace(&mut file, OFFSET_AT, &offset.to_le_bytes()).unwrap();
        replace(&mut file, FILE_HEADER, &size.to_le_bytes()).unwrap();
        replace(&mut file, PLANES_AT, &1u16.to_le_bytes()).unwrap();
        replace(&mut file, 28, &bits.to_le_bytes()).unwrap();
        replace(&mut file, COLOURS_AT, &colours.to_le_bytes()).unwrap();
        file
    }

    fn offset(file: &[u8]) -> u32 {
        u32::from_le_bytes(*repaired(file)[OFFSET_AT..OFFSET_AT + 4].as_array().unwrap())
    }

    #[test]
    fn offset_follows_header_and_palette() {
        for (declared, bits, colours, expected) in
            [(0, 24, 0, 54), (0, 8, 0, 54 + 1024), (54, 8, 16, 54 + 64), (54, 24, 0, 54), (1078, 8, 0, 1078)]
        {
            assert_eq!(offset(&file(40, declared, bits, colours)), expected, "{declared} {bits} {colours}");
        }
    }

    #[test]
    fn regular_headers_are_not_copied() {
        assert!(matches!(repaired(&file(40, 54, 24, 0)), Cow::Borrowed(_)));
        assert!(matches!(repaired(&[]), Cow::Borrowed(_)));
    }

    #[test]
    fn os2_header_is_cut_to_that_of_windows() {
        let long = file(64, 78, 24, 0);
        let short = repaired(&long);
        assert_eq!((short.len(), offset(&long)), (long.len() - 24, 54));
    }
}
