//! The size that an image file claims, for estimates only.

/// The number of bytes in which the size is looked for.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Returns the number of pixels that the begin of a file claims.
///
/// The number may be wrong. The decoders check sizes themselves.
#[must_use]
pub fn claimed_pixels(file: &[u8]) -> Option<u64> {
    let header = file.get(..MAX_HEADER_BYTES).unwrap_or(file);
    let size = imagesize::blob_size(header).ok()?;
    Some((size.width as u64).saturating_mul(size.height as u64).min(u32::MAX.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_pixels_of_a_header_and_of_other_bytes() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\0\0\0\0\x10\x08\x02\0\0\0";
        assert_eq!(claimed_pixels(png), Some(4096));
        assert_eq!(claimed_pixels(b"plain text that is no image"), None);
        assert_eq!(claimed_pixels(b""), None);
    }
}
