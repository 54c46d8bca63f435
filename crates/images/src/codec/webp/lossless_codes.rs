//! Computes the memory for the Huffman codes of a lossless image, before they are built.
//!
//! An image may have 65,536 groups of five codes, each with a table of some kilobytes, for a few
//! pixels. The number of groups is the largest value of an image inside the image. This module
//! reads that image and the lengths of all codes, as the WebP lossless bitstream specification
//! describes them. It stores no pixels.

use crate::{
    codec::webp::errors::{corrupt, truncated},
    error::DecodeError,
};

/// The code lengths of an alphabet: the number of codes of each length, and the symbols in order.
struct Code {
    counts: [u16; MAX_LENGTH + 1],
    symbols: Vec<u16>,
}

const MAX_LENGTH: usize = 15;
const LITERALS: u16 = 256;
const LENGTH_PREFIXES: u16 = 24;
const DISTANCE_PREFIXES: u16 = 40;
const LENGTH_CODE_ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The memory of the five codes of a group without their tables, while the list of groups grows.
const GROUP_BYTES: u64 = 2048;
/// The decoder has a table for codes of up to this length, and a tree for longer ones.
const TABLE_BITS: usize = 10;
const TABLE_ENTRY_BYTES: u64 = 4;
const TREE_NODE_BYTES: u64 = 16;

/// Returns the memory for the codes of the image in `data`, in bytes. Stops above `limit`.
///
/// Data that the decoder would read in another way are an error.
pub(super) fn code_bytes(data: &[u8], limit: u64) -> Result<u64, DecodeError> {
    const SIGNATURE_BITS: usize = 8;
    let mut bits = Bits { data, at: SIGNATURE_BITS };
    bitstream_code_bytes(&mut bits, limit).ok_or_else(|| match bits.at > data.len() * 8 {
        true => truncated(),
        false => corrupt("invalid Huffman codes"),
    })
}

fn bitstream_code_bytes(bits: &mut Bits<'_>, limit: u64) -> Option<u64> {
    let (mut width, height) = (bits.read(14)? + 1, bits.read(14)? + 1);
    // Whether alpha is used, and the version.
    bits.read(4)?;
    let mut seen = [false; 4];
    while bits.read(1)? == 1 {
        let transform = bits.read(2)? as usize;
        if std::mem::replace(seen.get_mut(transform)?, true) {
            return None;
        }
        match transform {
            0 | 1 => {
                let block = bits.read(3)? + 2;
                bits.largest_pixel(blocks(width, block), blocks(height, block))?;
            }
            2 => {}
            _ => {
                let colours = bits.read(8)? + 1;
                bits.largest_pixel(colours, 1)?;
                let packed_bits = match colours {
                    0..=2 => 3,
                    3..=4 => 2,
                    5..=16 => 1,
                    _ => 0,
                };
                width = blocks(width, packed_bits);
            }
        }
    }
    let cached = bits.color_cache()?;
    let groups = if bits.read(1)? == 1 {
        let block = bits.read(3)? + 2;
        bits.largest_pixel(blocks(width, block), blocks(height, block))? + 1
    } else {
        1
    };
    let mut total = 0;
    for _ in 0..groups {
        total += GROUP_BYTES;
        for symbols in alphabets(cached) {
            total += bits.code(symbols)?.table_bytes();
        }
        if total > limit {
            break;
        }
    }
    Some(total)
}

fn blocks(side: u32, bits: u32) -> u32 {
    side.div_ceil(1 << bits)
}

/// Returns the sizes of the alphabets of green, red, blue, alpha and distance.
fn alphabets(cached: u16) -> [u16; 5] {
    [LITERALS + LENGTH_PREFIXES + cached, LITERALS, LITERALS, LITERALS, DISTANCE_PREFIXES]
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; MAX_LENGTH + 1];
        let mut symbols = Vec::new();
        for length in 1..=MAX_LENGTH {
            let of_length = (0..).zip(lengths).filter(|&(_, &l)| usize::from(l) == length).map(|(s, _)| s);
            let before = symbols.len();
            symbols.extend(of_length);
            if let Some(count) = counts.get_mut(length) {
                *count = (symbols.len() - before) as u16;
            }
        }
        Self { counts, symbols }
    }

    /// Returns the code of one symbol without bits, or of two symbols of one bit.
    fn listed(symbols: Vec<u16>) -> Self {
        let mut counts = [0; MAX_LENGTH + 1];
        if let (2, Some(count)) = (symbols.len(), counts.get_mut(1)) {
            *count = 2;
        }
        Self { counts, symbols }
    }

    /// Returns the memory that the decoder allocates for this code.
    fn table_bytes(&self) -> u64 {
        if self.symbols.len() < 2 {
            return 0;
        }
        let longest = self.counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        let entries = 1u64 << longest.min(TABLE_BITS);
        let long_codes: u64 = self.counts.iter().skip(TABLE_BITS + 1).map(|&count| u64::from(count)).sum();
        entries * TABLE_ENTRY_BYTES + (2 * long_codes + 4) * TREE_NODE_BYTES
    }
}

/// Bits of a file, lowest first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// Returns a number of up to 16 bits.
    fn read(&mut self, count: u32) -> Option<u32> {
        let start = self.at / 8;
        let bytes = self.data.get(start..(start + 3).min(self.data.len()))?;
        let joined = bytes.iter().rev().fold(0u32, |number, &byte| number << 8 | u32::from(byte));
        let shift = (self.at % 8) as u32;
        self.at += count as usize;
        (self.at <= self.data.len() * 8).then_some((joined >> shift) & ((1 << count) - 1))
    }

    fn symbol(&mut self, code: &Code) -> Option<u16> {
        if let [only] = code.symbols.as_slice() {
            return Some(*only);
        }
        let (mut value, mut first, mut index) = (0usize, 0usize, 0usize);
        for &count in code.counts.iter().skip(1) {
            let count = usize::from(count);
            value |= self.read(1)? as usize;
            if value < first + count {
                return code.symbols.get(index + value.checked_sub(first)?).copied();
            }
            index += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        None
    }

    /// Returns the number of colours in the cache.
    fn color_cache(&mut self) -> Option<u16> {
        if self.read(1)? == 0 {
            return Some(0);
        }
        let bits = self.read(4)?;
        (1..=11).contains(&bits).then_some(1 << bits)
    }

    /// Reads the lengths of a code of `symbols` symbols.
    fn code(&mut self, symbols: u16) -> Option<Code> {
        let mut lengths = vec![0u8; symbols.into()];
        if self.read(1)? == 1 {
            let is_pair = self.read(1)? == 1;
            let first_bits = if self.read(1)? == 1 { 8 } else { 1 };
            let mut listed = vec![self.read(first_bits)? as u16];
            if is_pair {
                listed.push(self.read(8)? as u16);
            }
            return listed.iter().all(|&symbol| symbol < symbols).then(|| Code::listed(listed));
        }
        let mut length_lengths = [0u8; LENGTH_CODE_ORDER.len()];
        let used = self.read(4)? as usize + 4;
        for &at in LENGTH_CODE_ORDER.iter().take(used) {
            *length_lengths.get_mut(at)? = self.read(3)? as u8;
        }
        let length_code = Code::new(&length_lengths);
        let mut tokens = u32::from(symbols);
        if self.read(1)? == 1 {
            let bits = 2 + 2 * self.read(3)?;
            tokens = 2 + self.read(bits)?;
        }
        let (mut at, mut previous) = (0, 8u8);
        while at < lengths.len() && tokens > 0 {
            tokens -= 1;
            let (length, repeats) = match self.symbol(&length_code)? {
                16 => (previous, self.read(2)? + 3),
                17 => (0, self.read(3)? + 3),
                18 => (0, self.read(7)? + 11),
                length => (length as u8, 1),
            };
            if length != 0 {
                previous = length;
            }
            let end = at + repeats as usize;
            lengths.get_mut(at..end)?.fill(length);
            at = end;
        }
        Some(Code::new(&lengths))
    }

    /// Reads an image and returns the largest number in its red and green samples.
    ///
    /// A pixel that is copied, or from the cache, equals an earlier one or is 0.
    fn largest_pixel(&mut self, width: u32, height: u32) -> Option<u32> {
        let [green, red, blue, alpha, distance] = alphabets(self.color_cache()?);
        let (green, red, blue) = (self.code(green)?, self.code(red)?, self.code(blue)?);
        let (alpha, distance) = (self.code(alpha)?, self.code(distance)?);
        let (mut left, mut largest) = (u64::from(width) * u64::from(height), 0);
        while left > 0 {
            let symbol = self.symbol(&green)?;
            let pixels = if symbol < LITERALS {
                let number = u32::from(self.symbol(&red)?) << 8 | u32::from(symbol);
                self.symbol(&blue)?;
                self.symbol(&alpha)?;
                largest = largest.max(number);
                1
            } else if symbol >= LITERALS + LENGTH_PREFIXES {
                // An index into the cache.
                1
            } else {
                let length = self.prefixed(symbol - LITERALS)?;
                let prefix = self.symbol(&distance)?;
                self.prefixed(prefix)?;
                length.into()
            };
            left = left.saturating_sub(pixels);
        }
        Some(largest)
    }

    /// Returns the length or distance with this prefix, and reads its further bits.
    fn prefixed(&mut self, prefix: u16) -> Option<u32> {
        if prefix < 4 {
            return Some(u32::from(prefix) + 1);
        }
        let bits = (u32::from(prefix) - 2) >> 1;
        // Up to 18 bits for a distance.
        let low = self.read(bits.min(16))?;
        let high = self.read(bits.saturating_sub(16))?;
        Some(((2 + (u32::from(prefix) & 1)) << bits) + (high << 16 | low) + 1)
    }
}
