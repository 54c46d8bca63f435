//! The eight orientations of an image, numbered as in TIFF tag 274 and in EXIF.

use crate::rgb_image::RgbImage;

/// Rotates and mirrors `image`, stored with `orientation` (1 to 8), to the upright orientation.
///
/// Other values of `orientation` leave the image unchanged.
pub(crate) fn upright(image: RgbImage, orientation: u16) -> RgbImage {
    if !(2..=8).contains(&orientation) {
        return image;
    }
    let RgbImage { width, height, data } = image;
    let pixels = data.as_chunks::<3>().0;
    let (columns, rows) = (width as usize, height as usize);
    let swapped = orientation >= 5;
    let (out_columns, out_rows) = if swapped { (rows, columns) } else { (columns, rows) };
    let mut out = Vec::with_capacity(data.len());
    for y in 0..out_rows {
        for x in 0..out_columns {
            let (from_x, from_y) = match orientation {
                2 => (columns - 1 - x, y),
                3 => (columns - 1 - x, rows - 1 - y),
                4 => (x, rows - 1 - y),
                5 => (y, x),
                6 => (y, rows - 1 - x),
                7 => (columns - 1 - y, rows - 1 - x),
                _ => (columns - 1 - y, x),
            };
            out.extend(pixels.get(from_y * columns + from_x).copied().unwrap_or_default());
        }
    }
    let (width, height) = if swapped { (height, width) } else { (width, height) };
    RgbImage { width, height, data: out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_orientation_is_undone_by_its_inverse() {
        let data: Vec<u8> = (0..2 * 3 * 3).collect();
        let image = RgbImage { width: 3, height: 2, data };
        for (orientation, inverse) in [(2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7), (8, 6)] {
            let turned = upright(image.clone(), orientation);
            assert_ne!(turned, image, "{orientation}");
            assert_eq!(upright(turned, inverse), image, "{orientation}");
        }
    }

    #[test]
    fn unknown_orientation_leaves_image_unchanged() {
        let image = RgbImage { width: 1, height: 2, data: vec![1, 2, 3, 4, 5, 6] };
        for orientation in [0, 1, 9, u16::MAX] {
            assert_eq!(upright(image.clone(), orientation), image);
        }
    }
}
