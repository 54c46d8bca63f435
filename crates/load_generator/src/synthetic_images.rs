//! Pictures to ask about: those of a folder, or made ones.

use std::{io, path::Path};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Why there are no pictures.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// A folder or file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// Where.
        path: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// A folder holds no picture.
    #[error("{0} holds no .png, .jpg, .jpeg, .webp, .gif or .bmp file")]
    Empty(String),
    /// A picture could not be written.
    #[error("cannot encode a picture of {width} x {height} pixels: {cause}")]
    Encoding {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// What is wrong.
        cause: png::EncodingError,
    },
}

const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// All pictures of a folder, by their names.
///
/// # Errors
/// [`PictureError`] if it cannot be read or has none.
pub fn of_folder(folder: &Path) -> Result<Vec<Bytes>, PictureError> {
    let unreadable =
        |path: &Path, cause| PictureError::Unreadable { path: path.display().to_string(), cause };
    let entries = std::fs::read_dir(folder).map_err(|cause| unreadable(folder, cause))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|cause| unreadable(folder, cause))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)) {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(PictureError::Empty(folder.display().to_string()));
    }
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map(Bytes::from).map_err(|cause| unreadable(path, cause))
    };
    paths.iter().map(read).collect()
}

/// `count` PNG files of `width` x `height` pixels: a gradient with rectangles on it, so that they take as long to decode as
/// drawings do, and differ.
///
/// # Errors
/// [`PictureError`] if a side is 0.
pub fn made(count: usize, width: u32, height: u32, seed: u64) -> Result<Vec<Bytes>, PictureError> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| draw(width, height, &mut random)).collect()
}

fn draw(width: u32, height: u32, random: &mut StdRng) -> Result<Bytes, PictureError> {
    let rectangles: Vec<_> = (0..6)
        .map(|_| {
            let (left, top) = (random.random_range(0..=width / 2), random.random_range(0..=height / 2));
            (left..left + width / 3, top..top + height / 3, random.random::<[u8; 3]>())
        })
        .collect();
    let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            let over = rectangles.iter().rfind(|(across, down, _)| across.contains(&x) && down.contains(&y));
            let gradient = [(x * 255 / width) as u8, (y * 255 / height) as u8, 128];
            pixels.extend(over.map_or(gradient, |(.., colour)| *colour));
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map_err(|cause| PictureError::Encoding { width, height, cause })?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_pictures_differ_and_come_again_with_the_same_seed() {
        let pictures = made(3, 40, 30, 7).unwrap();
        assert_ne!(pictures[0], pictures[1]);
        assert_eq!(pictures, made(3, 40, 30, 7).unwrap());
        assert_ne!(pictures, made(3, 40, 30, 8).unwrap());
        assert!(pictures.iter().all(|file| file.starts_with(b"\x89PNG")));
    }

    #[test]
    fn a_picture_without_pixels_is_refused() {
        assert!(made(1, 0, 30, 7).unwrap_err().to_string().contains("0 x 30"));
    }

    #[test]
    fn a_folder_gives_its_pictures_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let empty = of_folder(folder.path()).unwrap_err();
        assert!(empty.to_string().contains("holds no .png"), "{empty}");
        for (name, content) in [("b.PNG", "two"), ("a.jpg", "one"), ("notes.txt", "none")] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        assert_eq!(of_folder(folder.path()).unwrap(), ["one", "two"]);
        let missing = of_folder(&folder.path().join("missing")).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read "), "{missing}");
    }
}
