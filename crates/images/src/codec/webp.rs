//! Decodes WebP, lossy and lossless. Of an animated file, it decodes the first frame.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use crate::{
    admission::Admission, codec::rgb_conversion::push_first_three, error::DecodeError, format::Format,
    rgb_image::RgbImage,
};

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(decode_error)?;
    // A frame needs 4 bytes a pixel. Alpha needs another copy for the conversion. An animation also
    // needs a canvas and a frame.
    let scratch = match (decoder.is_animated(), decoder.has_alpha()) {
        (true, _) => 12,
        (false, true) => 7,
        (false, false) => 4,
    };
    let admitted = admission.admit(decoder.dimensions(), scratch)?;
    let samples = decoder.output_buffer_size().unwrap_or_default();
    let mut pixels = vec![0; samples];
    if decoder.is_animated() {
        decoder.read_frame(&mut pixels).map_err(decode_error)?;
    } else {
        decoder.read_image(&mut pixels).map_err(decode_error)?;
    }
    let rgb = if decoder.has_alpha() {
        let mut rgb = admitted.buffer();
        push_first_three::<4>(&mut rgb, &pixels);
        rgb
    } else {
        pixels
    };
    admitted.finish(Format::WebP, rgb)
}

fn decode_error(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::WebP }
        }
        other => DecodeError::corrupt(Format::WebP, other),
    }
}
