//! Finds the first image of a WebP file.
//!
//! The file is a list of chunks. Like libwebp, the search relies on the chunks that exist, not on
//! the flags that announce them. Alpha is in another chunk, which is not read.

use crate::{
    codec::webp::errors::{corrupt, truncated},
    error::DecodeError,
};

const ANIMATION_FLAG: u8 = 2;

/// The data of an image, and its place on the canvas.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bitstream<'a> {
    /// Width and height of the canvas, if the file declares them outside the image data.
    pub(super) canvas: Option<(u32, u32)>,
    /// The left and upper edges of the image on the canvas.
    pub(super) origin: (u32, u32),
    pub(super) is_lossless: bool,
    pub(super) data: &'a [u8],
}

pub(super) fn first_bitstream(file: &[u8]) -> Result<Bitstream<'_>, DecodeError> {
    let mut chunks = Chunks { rest: file.get(12..).unwrap_or_default() };
    let (name, data) = chunks.next().ok_or_else(truncated)??;
    if let Some(bitstream) = still(name, data) {
        return Ok(bitstream);
    }
    let header = data.first_chunk::<10>().filter(|_| name == *b"VP8X");
    let &[flags, _, _, _, w0, w1, w2, h0, h1, h2] = header.ok_or_else(|| corrupt("no image"))?;
    let canvas = Some((1 + number([w0, w1, w2]), 1 + number([h0, h1, h2])));
    for chunk in chunks {
        let (name, data) = chunk?;
        let bitstream = if flags & ANIMATION_FLAG == 0 {
            still(name, data)
        } else if name == *b"ANMF" {
            Some(frame(data)?)
        } else {
            None
        };
        if let Some(bitstream) = bitstream {
            return Ok(Bitstream { canvas, ..bitstream });
        }
    }
    Err(truncated())
}

/// Returns the image of a frame of an animation.
fn frame(data: &[u8]) -> Result<Bitstream<'_>, DecodeError> {
    let (header, rest) = data.split_first_chunk::<16>().ok_or_else(truncated)?;
    let &[x0, x1, x2, y0, y1, y2, ..] = header;
    for chunk in (Chunks { rest }) {
        let (name, data) = chunk?;
        if let Some(bitstream) = still(name, data) {
            return Ok(Bitstream {
                origin: (2 * number([x0, x1, x2]), 2 * number([y0, y1, y2])),
                ..bitstream
            });
        }
    }
    Err(corrupt("a frame without an image"))
}

fn still(name: [u8; 4], data: &[u8]) -> Option<Bitstream<'_>> {
    let is_lossless = name == *b"VP8L";
    let is_image = is_lossless || name == *b"VP8 ";
    is_image.then_some(Bitstream { canvas: None, origin: (0, 0), is_lossless, data })
}

/// The chunks of a file or frame. A chunk that the data cut is an error.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<([u8; 4], &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&[n0, n1, n2, n3, s0, s1, s2, s3], rest) = self.rest.split_first_chunk::<8>()?;
        let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let Some((data, rest)) = rest.split_at_checked(size) else {
            self.rest = &[];
            return Some(Err(truncated()));
        };
        // Chunks have even sizes.
        self.rest = rest.get(size % 2..).unwrap_or_default();
        Some(Ok(([n0, n1, n2, n3], data)))
    }
}

fn number([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut chunk = [name.as_slice(), &(data.len() as u32).to_le_bytes(), data].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    }

    fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
        [b"RIFF\0\0\0\0WEBP".as_slice(), &chunks.concat()].concat()
    }

    #[test]
    fn image_follows_chunks_that_flags_do_not_announce() {
        let header = chunk(b"VP8X", &[!ANIMATION_FLAG, 0, 0, 0, 9, 0, 0, 19, 0, 0]);
        let file = file(&[header, chunk(b"ALPH", &[1]), chunk(b"what", &[]), chunk(b"VP8 ", &[5])]);
        let bitstream = Bitstream { canvas: Some((10, 20)), origin: (0, 0), is_lossless: false, data: &[5] };
        assert_eq!(first_bitstream(&file), Ok(bitstream));
    }

    #[test]
    fn first_frame_has_its_place_on_the_canvas() {
        let header = chunk(b"VP8X", &[ANIMATION_FLAG, 0, 0, 0, 9, 0, 0, 19, 0, 0]);
        let frame = [&[2, 0, 0, 3, 0, 0][..], &[0; 10], &chunk(b"VP8L", &[7])].concat();
        let file = file(&[header, chunk(b"ANIM", &[0; 6]), chunk(b"ANMF", &frame), chunk(b"ANMF", &[])]);
        let bitstream = Bitstream { canvas: Some((10, 20)), origin: (4, 6), is_lossless: true, data: &[7] };
        assert_eq!(first_bitstream(&file), Ok(bitstream));
    }

    #[test]
    fn cut_chunk_is_truncated() {
        for file in [file(&[]), file(&[b"VP8 \x05\0\0\0".to_vec()])] {
            assert_eq!(first_bitstream(&file), Err(truncated()));
        }
    }
}
