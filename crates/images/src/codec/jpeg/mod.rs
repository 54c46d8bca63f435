//! Decodes JPEG with libjpeg-turbo's decoder, in the copy that mozjpeg contains.
//!
//! The reference decodes with libjpeg-turbo, too. Pure-Rust decoders differ from it by up to five
//! levels: see `docs/decisions/jpeg-decoder.md`.

mod libjpeg;

pub(super) use libjpeg::{Decompressor, Failure, OutputColor};

use crate::{
    admission::{Admission, pixel_bytes},
    codec::rgb_conversion::push_cmyk,
    error::DecodeError,
    format::Format,
    rgb_image::RgbImage,
};

/// The largest accepted number of scans in one image.
///
/// Encoders write 1 to about 15 scans. Each scan is a pass over all coefficients, so a few
/// megabytes of empty scans would cost hours.
const MAX_SCANS: u16 = 64;

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let file = Decompressor::open(None, bytes, MAX_SCANS).map_err(decode_error)?;
    let size = file.size();
    let is_cmyk = file.is_cmyk();
    let inks = if is_cmyk { pixel_bytes(size, 4) } else { 0 };
    let admitted = admission.admit(size, file.working_bytes().saturating_add(inks))?;
    let samples = admitted.pixels() * if is_cmyk { 4 } else { 3 };
    let mut decoded = vec![0; samples];
    if !is_cmyk {
        file.read(OutputColor::Rgb, true, &mut decoded).map_err(decode_error)?;
        return admitted.finish(Format::Jpeg, decoded);
    }
    file.read(OutputColor::Cmyk, true, &mut decoded).map_err(decode_error)?;
    let mut rgb = admitted.buffer();
    // Adobe stores inverted inks. The reference assumes that of every CMYK JPEG.
    push_cmyk(&mut rgb, decoded.as_chunks::<4>().0.iter().map(|pixel| pixel.map(|ink| u8::MAX - ink)));
    admitted.finish(Format::Jpeg, rgb)
}

fn decode_error(failure: Failure) -> DecodeError {
    match failure {
        Failure::Truncated => DecodeError::Truncated { format: Format::Jpeg },
        Failure::TooManyScans => {
            DecodeError::unsupported(Format::Jpeg, format_args!("more than {MAX_SCANS} scans"))
        }
        Failure::Invalid(message) => DecodeError::corrupt(Format::Jpeg, message),
    }
}
