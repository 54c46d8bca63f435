//! Recognizes the format of a file by its first bytes.
//!
//! File names and declared media types are ignored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An image format that the decoder reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Format {
    /// Portable Network Graphics. Of an animated file, the default image.
    Png,
    /// JPEG with 8 bits a sample.
    ///
    /// Baseline, extended and progressive Huffman coding. Grey, RGB, YCbCr, CMYK and YCCK.
    Jpeg,
    /// WebP, lossy and lossless. Of an animated file, the first frame.
    WebP,
    /// GIF, the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF and BigTIFF, the first page.
    Tiff,
}

impl Format {
    /// All formats, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Png, Self::Jpeg, Self::WebP, Self::Gif, Self::Bmp, Self::Tiff];

    /// Returns the format whose signature `bytes` starts with, if any.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'B', b'M', ..] => Some(Self::Bmp),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            _ => None,
        }
    }

    /// Returns the usual name of the format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_svg_and_html_have_no_format() {
        for text in ["", "hello", "<svg xmlns='http://www.w3.org/2000/svg'/>", "<html>", "%PDF-1.7"] {
            assert_eq!(Format::sniff(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn riff_audio_is_not_webp() {
        assert_eq!(Format::sniff(b"RIFF\x10\0\0\0WAVEfmt "), None);
    }
}
