//! Writers of files that cost more than they weigh.

/// Bits of WebP, lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn write(&mut self, value: u32, count: usize) {
        for bit in 0..count {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (self.count % 8);
            self.count += 1;
        }
    }

    /// Writes a code of one symbol, which needs no bits.
    fn single(&mut self, symbol: u32) {
        self.write(0b101, 3);
        self.write(symbol, 8);
    }

    /// Writes a code whose lengths are 1 to 10, and 10 again: a table of 1,024 entries.
    fn skewed(&mut self) {
        // The lengths themselves have codes of 4 bits: 16 symbols of equal length.
        let symbols: Vec<u32> = (0..=15).collect();
        self.write(0, 1);
        self.write(15, 4);
        for symbol in [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] {
            self.write(if symbols.contains(&symbol) { 4 } else { 0 }, 3);
        }
        let lengths: Vec<u32> = (1..=10).chain([10]).collect();
        self.write(1, 1);
        self.write(1, 3);
        self.write(lengths.len() as u32 - 2, 4);
        for length in lengths {
            self.write((length as u8).reverse_bits() as u32 >> 4, 4);
        }
    }
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut chunk = [name.as_slice(), &(data.len() as u32).to_le_bytes(), data].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat()
}

fn lossless_header(side: u32) -> Bits {
    let mut bits = Bits::default();
    bits.write(0x2F, 8);
    bits.write(side - 1, 14);
    bits.write(side - 1, 14);
    bits.write(0, 4);
    bits
}

/// Returns the data of a lossless image of 4 x 4 pixels with `groups` groups of Huffman codes.
fn many_groups(groups: u32) -> Vec<u8> {
    let mut bits = lossless_header(4);
    // No transforms, no colour cache, groups for blocks of 4 x 4.
    bits.write(0, 1);
    bits.write(0, 1);
    bits.write(1, 1);
    bits.write(0, 3);
    // The image of the groups: one pixel, the number of the last group.
    bits.write(0, 1);
    for symbol in [(groups - 1) & 255, (groups - 1) >> 8, 0, 0, 0] {
        bits.single(symbol);
    }
    for _ in 0..groups * 5 {
        bits.skewed();
    }
    bits.bytes.extend([0; 50]);
    bits.bytes
}

pub(crate) fn webp_of_many_groups(groups: u32) -> Vec<u8> {
    riff(&[chunk(b"VP8L", &many_groups(groups))])
}

/// Returns the same image as the frame of an animation.
pub(crate) fn animated_webp_of_many_groups(groups: u32) -> Vec<u8> {
    let frame = [&[0; 6][..], &[3, 0, 0, 3, 0, 0], &[0; 4], &chunk(b"VP8L", &many_groups(groups))].concat();
    let header = chunk(b"VP8X", &[2, 0, 0, 0, 3, 0, 0, 3, 0, 0]);
    riff(&[header, chunk(b"ANIM", &[0; 6]), chunk(b"ANMF", &frame)])
}

/// Returns a lossless image of equal pixels, of which none has a bit.
pub(crate) fn flat_webp(side: u32) -> Vec<u8> {
    let mut bits = lossless_header(side);
    bits.write(0, 3);
    for symbol in [200, 1, 2, 255, 0] {
        bits.single(symbol);
    }
    bits.bytes.extend([0; 50]);
    riff(&[chunk(b"VP8L", &bits.bytes)])
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(body.len() as u16 + 2).to_be_bytes()[..], body].concat()
}

/// Returns the segments of a JPEG up to its first scan. `kind` is 0xC0 or 0xC2 for progressive.
fn jpeg_head(kind: u8, (width, height): (u16, u16), components: u8) -> Vec<u8> {
    let mut frame = vec![8];
    frame.extend(height.to_be_bytes());
    frame.extend(width.to_be_bytes());
    frame.push(components);
    for id in 1..=components {
        frame.extend([id, 0x11, 0]);
    }
    // A code of one bit for the difference 0, and one for the end of a block.
    let mut dc = vec![0x00, 1];
    dc.extend([0; 15]);
    dc.push(0);
    let mut ac = dc.clone();
    ac[0] = 0x10;
    let tables = [segment(0xDB, &[vec![0], vec![1; 64]].concat()), segment(0xC4, &dc), segment(0xC4, &ac)];
    [vec![0xFF, 0xD8], tables.concat(), segment(kind, &frame)].concat()
}

fn scan(components: u8, from: u8, to: u8) -> Vec<u8> {
    let mut body = vec![components];
    for id in 1..=components {
        body.extend([id, 0]);
    }
    body.extend([from, to, 0]);
    segment(0xDA, &body)
}

/// Returns a JPEG of one scan, all of whose blocks are zero.
pub(crate) fn flat_jpeg(kind: u8, size: (u16, u16), components: u8) -> Vec<u8> {
    let blocks = usize::from(size.0.div_ceil(8)) * usize::from(size.1.div_ceil(8)) * usize::from(components);
    let to = if kind == 0xC2 { 0 } else { 63 };
    [jpeg_head(kind, size, components), scan(components, 0, to), vec![0; blocks / 4 + 2], vec![0xFF, 0xD9]]
        .concat()
}

/// Returns a progressive JPEG whose scans are inside a segment that libjpeg does not skip.
///
/// A reader of markers skips the data of `FF 02` by its length. libjpeg looks for a restart marker
/// and reads every marker on its way.
pub(crate) fn jpeg_of_hidden_scans(scans: usize) -> Vec<u8> {
    let hidden = [vec![0xFF, 0x02, 0xFF, 0xFF, 0xD0], scan(1, 1, 63).repeat(scans), vec![0; 70_000]].concat();
    let restarts = segment(0xDD, &1u16.to_be_bytes());
    [jpeg_head(0xC2, (64, 64), 1), restarts, scan(1, 1, 63), vec![0; 4], hidden, vec![0xFF, 0xD9]].concat()
}

/// Returns a little-endian TIFF of equal strips, or of equal tiles.
pub(crate) fn tiff(
    (width, height): (u32, u32),
    cell: &[u8],
    rows_per_strip: u32,
    compression: u32,
    samples: u32,
    tile: Option<(u32, u32)>,
) -> Vec<u8> {
    let cells = match tile {
        Some(tile) => width.div_ceil(tile.0) * height.div_ceil(tile.1),
        None => height.div_ceil(rows_per_strip),
    };
    let mut file = [b"II*\0\0\0\0\0", cell].concat();
    file.resize(file.len().next_multiple_of(2), 0);
    let mut list = |value: u32| {
        if cells == 1 {
            return value;
        }
        let at = file.len() as u32;
        (0..cells).for_each(|_| file.extend(value.to_le_bytes()));
        at
    };
    let (offsets, counts) = (list(8), list(cell.len() as u32));
    // Grey, RGB or CMYK.
    let photometric = match samples {
        3 => 2,
        4 => 5,
        _ => 1,
    };
    let mut entries = vec![
        (256, 1, width),
        (257, 1, height),
        (258, 1, 8),
        (259, 1, compression),
        (262, 1, photometric),
        (277, 1, samples),
    ];
    match tile {
        Some(tile) => {
            entries.extend([(322, 1, tile.0), (323, 1, tile.1), (324, cells, offsets), (325, cells, counts)])
        }
        None => {
            entries.extend([(273, cells, offsets), (278, 1, rows_per_strip), (279, cells, counts)]);
        }
    }
    entries.sort_unstable();
    let directory = file.len() as u32;
    file[4..8].copy_from_slice(&directory.to_le_bytes());
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, count, value) in entries {
        file.extend([&(tag as u16).to_le_bytes()[..], &4u16.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file
}
