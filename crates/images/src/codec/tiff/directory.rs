//! Reads the first directory of a TIFF or BigTIFF.

use crate::{
    codec::tiff::errors::{corrupt, truncated},
    error::DecodeError,
};

/// The largest accepted number of values of one tag.
///
/// It bounds the number of strips or tiles. A scan with strips of one row has one for each row.
pub(super) const MAX_VALUES: u64 = 1 << 18;

/// The first directory of a file. Nothing is read before a tag is asked for.
pub(super) struct Directory<'a> {
    file: &'a [u8],
    little_endian: bool,
    is_big: bool,
    /// The offset of the first entry.
    first_entry: usize,
    entries: usize,
}

/// An entry: the kind and number of its values, and their bytes.
struct Entry<'a> {
    kind: u16,
    bytes: &'a [u8],
}

impl<'a> Directory<'a> {
    pub(super) fn read(file: &'a [u8]) -> Result<Self, DecodeError> {
        let little_endian = file.starts_with(b"II");
        let mut new = Self { file, little_endian, is_big: false, first_entry: 0, entries: 0 };
        new.is_big = new.number(2, 2) == Some(43);
        let found = || {
            // A BigTIFF has the size of its offsets, 8, at byte 4.
            let at = if new.is_big { new.number(8, 8)? } else { new.number(4, 4)? };
            let at = usize::try_from(at).ok()?;
            let count_bytes = if new.is_big { 8 } else { 2 };
            let entries = usize::try_from(new.number(at, count_bytes)?).ok()?;
            let first = at.checked_add(count_bytes)?;
            let end = first.checked_add(entries.checked_mul(new.entry_bytes())?)?;
            (end <= file.len()).then_some((first, entries))
        };
        let (first_entry, entries) = found().ok_or_else(truncated)?;
        Ok(Self { first_entry, entries, ..new })
    }

    pub(super) fn file(&self) -> &'a [u8] {
        self.file
    }

    pub(super) fn is_little_endian(&self) -> bool {
        self.little_endian
    }

    /// Returns the values of a tag of whole numbers, or `None` if the directory lacks it.
    pub(super) fn values(&self, tag: u16) -> Result<Option<Vec<u64>>, DecodeError> {
        let Some(entry) = self.entry(tag)? else { return Ok(None) };
        let size = match entry.kind {
            1 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 13 => 4,
            16..=18 => 8,
            kind => return Err(corrupt(format_args!("tag {tag} has values of type {kind}"))),
        };
        let values = entry.bytes.chunks_exact(size).map(|value| number(value, self.little_endian));
        Ok(Some(values.collect()))
    }

    /// Returns the first value of a tag.
    pub(super) fn value(&self, tag: u16) -> Result<Option<u64>, DecodeError> {
        Ok(self.values(tag)?.and_then(|values| values.first().copied()))
    }

    /// Returns the first value of a tag, or `default` if the directory lacks it.
    pub(super) fn value_or(&self, tag: u16, default: u64) -> Result<u64, DecodeError> {
        Ok(self.value(tag)?.unwrap_or(default))
    }

    /// Returns the bytes of a tag.
    pub(super) fn bytes(&self, tag: u16) -> Result<Option<&'a [u8]>, DecodeError> {
        Ok(self.entry(tag)?.map(|entry| entry.bytes))
    }

    fn entry(&self, tag: u16) -> Result<Option<Entry<'a>>, DecodeError> {
        let mut offsets = (0..self.entries).map(|n| self.first_entry + n * self.entry_bytes());
        let Some(at) = offsets.find(|&at| self.number(at, 2) == Some(tag.into())) else { return Ok(None) };
        let truncated = || corrupt(format_args!("the values of tag {tag} end behind the file"));
        let offset_bytes = if self.is_big { 8 } else { 4 };
        let kind = self.number(at + 2, 2).and_then(|kind| u16::try_from(kind).ok()).ok_or_else(truncated)?;
        let count = self.number(at + 4, offset_bytes).ok_or_else(truncated)?;
        if count > MAX_VALUES {
            return Err(corrupt(format_args!("tag {tag} has {count} values, at most {MAX_VALUES} allowed")));
        }
        let size = match kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        // At most 2^18 values of 8 bytes.
        let length = count as usize * size;
        let value_at = at + 4 + offset_bytes;
        let start = if length <= offset_bytes {
            value_at
        } else {
            let offset = self.number(value_at, offset_bytes).ok_or_else(truncated)?;
            usize::try_from(offset).map_err(|_| truncated())?
        };
        let end = start.checked_add(length).ok_or_else(truncated)?;
        Ok(Some(Entry { kind, bytes: self.file.get(start..end).ok_or_else(truncated)? }))
    }

    fn entry_bytes(&self) -> usize {
        if self.is_big { 20 } else { 12 }
    }

    /// Returns the number of `size` bytes at an offset.
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.file.get(at..at.checked_add(size)?)?;
        Some(number(bytes, self.little_endian))
    }
}

/// Returns the number in up to 8 bytes.
fn number(bytes: &[u8], little_endian: bool) -> u64 {
    let joined = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
    if little_endian { bytes.iter().rev().fold(0, joined) } else { bytes.iter().fold(0, joined) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a file with one entry, whose value is in the entry.
    fn file(tag: u16, kind: u16, count: u32, value: [u8; 4]) -> Vec<u8> {
        let mut file = b"II*\0\x08\0\0\0\x01\0".to_vec();
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value);
        file
    }

    #[test]
    fn values_of_each_width_are_read() {
        let shorts = file(258, 3, 2, [8, 0, 16, 0]);
        assert_eq!(Directory::read(&shorts).unwrap().values(258).unwrap(), Some(vec![8, 16]));
        let long = file(256, 4, 1, [1, 2, 0, 0]);
        assert_eq!(Directory::read(&long).unwrap().value(256).unwrap(), Some(513));
        assert_eq!(Directory::read(&long).unwrap().value(257).unwrap(), None);
    }

    #[test]
    fn big_tiff_has_wide_entries() {
        let mut file = b"MM\0\x2B\0\x08\0\0".to_vec();
        for number in [16u64, 1] {
            file.extend(number.to_be_bytes());
        }
        file.extend([1, 1, 0, 4]);
        file.extend(1u64.to_be_bytes());
        file.extend([0, 0, 2, 1, 0, 0, 0, 0]);
        assert_eq!(Directory::read(&file).unwrap().value(257).unwrap(), Some(513));
    }

    #[test]
    fn values_outside_the_file_are_an_error() {
        for (count, at) in [(100, [9, 0, 0, 0]), (u32::MAX, [8, 0, 0, 0]), (2, [0xFF; 4])] {
            let file = file(273, 4, count, at);
            assert!(Directory::read(&file).unwrap().values(273).is_err());
        }
        for file in [&b"II*\0"[..], b"II*\0\xFF\xFF\xFF\xFF", b"MM\0*\0\0\0\x08\xFF\xFF"] {
            assert!(Directory::read(file).is_err());
        }
    }
}
