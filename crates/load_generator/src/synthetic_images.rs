//! Draws synthetic images for a workload.

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// An image that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode an image of {width} x {height} pixels: {cause}")]
pub struct ImageEncodingError {
    width: u32,
    height: u32,
    cause: png::EncodingError,
}

/// Draws `count` different PNG files of `width` x `height` pixels.
///
/// Each image is a gradient with rectangles on it, which takes as long to decode as a drawing.
///
/// # Errors
/// [`ImageEncodingError`] if a side is 0.
pub fn draw_images(
    count: usize,
    width: u32,
    height: u32,
    seed: u64,
) -> Result<Vec<Bytes>, ImageEncodingError> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| draw_image(width, height, &mut rng)).collect()
}

fn draw_image(width: u32, height: u32, rng: &mut StdRng) -> Result<Bytes, ImageEncodingError> {
    let rectangles: Vec<_> = (0..6)
        .map(|_| {
            let (left, top) = (rng.random_range(0..=width / 2), rng.random_range(0..=height / 2));
            (left..left + width / 3, top..top + height / 3, rng.random::<[u8; 3]>())
        })
        .collect();
    let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let top_rectangle =
                rectangles.iter().rfind(|(columns, rows, _)| columns.contains(&x) && rows.contains(&y));
            let gradient = [(x * 255 / width) as u8, (y * 255 / height) as u8, 128];
            pixels.extend(top_rectangle.map_or(gradient, |(.., colour)| *colour));
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map_err(|cause| ImageEncodingError { width, height, cause })?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_differ_and_are_equal_for_equal_seeds() {
        let images = draw_images(3, 40, 30, 7).unwrap();
        assert_ne!(images[0], images[1]);
        assert_eq!(images, draw_images(3, 40, 30, 7).unwrap());
        assert_ne!(images, draw_images(3, 40, 30, 8).unwrap());
        assert!(images.iter().all(|file| file.starts_with(b"\x89PNG")));
    }

    #[test]
    fn image_without_pixels_is_an_error() {
        assert!(draw_images(1, 0, 30, 7).unwrap_err().to_string().contains("0 x 30"));
    }
}
