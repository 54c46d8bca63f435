//! Decodes JPEG with libjpeg-turbo's decoder, in the copy that mozjpeg contains.
//!
//! The reference decodes with libjpeg-turbo, too. Pure-Rust decoders differ from it by up to five
//! levels: see `docs/decisions/jpeg-decoder.md`.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    panic::{AssertUnwindSafe, catch_unwind},
};

use mozjpeg::{ColorSpace, Decompress};

use crate::{
    admission::Admission, codec::rgb_conversion::push_cmyk, error::DecodeError, format::Format,
    rgb_image::RgbImage,
};

/// The largest accepted number of scans in one image.
///
/// Encoders write 1 to about 15 scans. Each scan is a pass over all coefficients, so a few
/// megabytes of empty scans would cost hours.
const MAX_SCANS: usize = 64;

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let scans = scan_count(bytes);
    if scans > MAX_SCANS {
        let reason = format_args!("{scans} scans, at most {MAX_SCANS} allowed");
        return Err(DecodeError::unsupported(Format::Jpeg, reason));
    }
    let reached_end = Cell::new(false);
    let source = Source { rest: bytes, reached_end: &reached_end };
    // libjpeg reports fatal errors by unwinding through its C frames, without the panic hook.
    let unwound = catch_unwind(AssertUnwindSafe(|| decompress(source, scans, admission)));
    match unwound {
        Ok(Ok(image)) => Ok(image),
        _ if reached_end.get() => Err(DecodeError::Truncated { format: Format::Jpeg }),
        Ok(Err(DecompressError::Rejected(error))) => Err(error),
        Ok(Err(DecompressError::Io(error))) => Err(DecodeError::corrupt(Format::Jpeg, error)),
        Err(payload) => {
            let message = payload.downcast_ref::<String>().map_or("invalid data", String::as_str);
            let message = message.strip_prefix("libjpeg fatal error: ").unwrap_or(message);
            Err(DecodeError::corrupt(Format::Jpeg, message))
        }
    }
}

enum DecompressError {
    Rejected(DecodeError),
    Io(io::Error),
}

impl From<io::Error> for DecompressError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn decompress(source: Source<'_>, scans: usize, admission: &Admission) -> Result<RgbImage, DecompressError> {
    let header = Decompress::new_reader(source)?;
    let (Ok(width), Ok(height)) = (u32::try_from(header.width()), u32::try_from(header.height())) else {
        return Err(DecompressError::Rejected(DecodeError::corrupt(Format::Jpeg, "impossible size")));
    };
    let is_cmyk = matches!(header.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let components = header.components().len() as u64;
    // With several scans, libjpeg stores 16-bit coefficients of all components.
    let coefficients = if scans > 1 { 2 * components } else { 0 };
    let scratch = coefficients + if is_cmyk { 4 } else { 0 };
    let admitted = admission.admit((width, height), scratch).map_err(DecompressError::Rejected)?;
    let rgb = if is_cmyk {
        let mut started = header.to_colorspace(ColorSpace::JCS_CMYK)?;
        let pixels: Vec<[u8; 4]> = started.read_scanlines()?;
        started.finish()?;
        let mut rgb = admitted.buffer();
        // Adobe stores inverted inks. The reference assumes that of every CMYK JPEG.
        push_cmyk(&mut rgb, pixels.iter().map(|pixel| pixel.map(|ink| u8::MAX - ink)));
        rgb
    } else {
        let mut started = header.rgb()?;
        let rgb = started.read_scanlines()?;
        started.finish()?;
        rgb
    };
    admitted.finish(Format::Jpeg, rgb).map_err(DecompressError::Rejected)
}

/// A reader of the file that returns an error at its end.
///
/// libjpeg would insert an end marker and fill the missing pixels with grey. The reference rejects
/// such files.
struct Source<'a> {
    rest: &'a [u8],
    reached_end: &'a Cell<bool>,
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.reached_end.set(true);
            return Err(io::Error::other("file ends before the image"));
        }
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest = self.rest.get(amount..).unwrap_or_default();
    }
}

/// Counts the scans of the file by its markers.
///
/// Markers inside other segments, such as an EXIF thumbnail, do not count.
fn scan_count(bytes: &[u8]) -> usize {
    const START_OF_SCAN: u8 = 0xDA;
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes.get(2..).unwrap_or_default();
    let mut scans = 0;
    while let Some(at) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = rest.get(at + 1..).unwrap_or_default();
        match *rest {
            // A stuffed zero, a restart marker, padding or another marker without a segment.
            [0x00..=0x01 | 0xD0..=0xD8 | 0xFF, ..] => {}
            [END_OF_IMAGE, ..] => break,
            [marker, high, low, ..] => {
                scans += usize::from(marker == START_OF_SCAN);
                let length = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => break,
        }
    }
    scans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan_count_ignores_markers_inside_segments() {
        let app_segment_with_scan_inside = [0xFF, 0xE1, 0, 4, 0xFF, 0xDA];
        let scan = [0xFF, 0xDA, 0, 3, 1, 0x55, 0xFF, 0x00, 0xFF, 0xD0, 0x55];
        let mut file = vec![0xFF, 0xD8];
        file.extend(app_segment_with_scan_inside);
        file.extend(scan);
        file.extend(scan);
        file.extend([0xFF, 0xD9]);
        file.extend(scan);
        assert_eq!(scan_count(&file), 2);
    }

    #[test]
    fn scan_count_terminates_on_any_bytes() {
        for file in [&[][..], &[0xFF], &[0xFF, 0xD8, 0xFF], &[0xFF, 0xD8, 0xFF, 0xDA, 0, 0, 0xFF]] {
            assert!(scan_count(file) <= 1);
        }
    }
}
