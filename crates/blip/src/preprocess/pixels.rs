//! 8-bit RGB pixels, borrowed and owned, `[height, width, 3]`: rows from the top, without padding.

/// A view of an RGB image of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RgbView<'a> {
    width: usize,
    height: usize,
    data: &'a [u8],
}

/// An RGB image at the model's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

/// Error of samples that do not form an image of the stated size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{samples} samples do not form an RGB image of {width} x {height} pixels")]
pub struct PixelsError {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Number of samples.
    pub samples: usize,
}

impl<'a> RgbView<'a> {
    /// Creates a view of `data` as an image of this size, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`PixelsError`] if a side is 0, or a pixel has not three samples.
    pub fn new(width: usize, height: usize, data: &'a [u8]) -> Result<Self, PixelsError> {
        check(width, height, data.len())?;
        Ok(Self { width, height, data })
    }

    /// Returns the width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns the samples, `[height, width, 3]`.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}

impl Pixels {
    /// Creates an image of this size from `data`, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`PixelsError`] if a side is 0, or a pixel has not three samples.
    pub fn new(height: usize, width: usize, data: Vec<u8>) -> Result<Self, PixelsError> {
        check(width, height, data.len())?;
        Ok(Self { width, height, data })
    }

    /// Creates an image from the output of a resize.
    pub(super) fn of_resize(height: usize, width: usize, data: Vec<u8>) -> Self {
        debug_assert!(check(width, height, data.len()).is_ok());
        Self { width, height, data }
    }

    /// Returns the width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns the samples, `[height, width, 3]`.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

fn check(width: usize, height: usize, samples: usize) -> Result<(), PixelsError> {
    let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
    if samples == 0 || expected != Some(samples) {
        return Err(PixelsError { width, height, samples });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_other_size_are_rejected() {
        for (width, height, samples) in [(0, 0, 0), (1, 1, 4), (2, 1, 3), (usize::MAX, usize::MAX, 3)] {
            assert_eq!(
                RgbView::new(width, height, &vec![0; samples]),
                Err(PixelsError { width, height, samples })
            );
        }
    }
}
