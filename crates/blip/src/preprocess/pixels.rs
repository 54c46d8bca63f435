//! 8-bit RGB pixels, borrowed and owned. Both are `[height, width, 3]`, rows from the top, no padding.

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

/// Samples that are no image of the size they came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{samples} samples are no rgb image of {width} x {height} pixels")]
pub struct PixelsError {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// How many samples there are.
    pub samples: usize,
}

impl<'a> RgbView<'a> {
    /// An image of this size in `data`.
    ///
    /// # Errors
    /// If a side is 0 or the samples are not three a pixel.
    pub fn new(width: usize, height: usize, data: &'a [u8]) -> Result<Self, PixelsError> {
        check(width, height, data.len())?;
        Ok(Self { width, height, data })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Samples, `[height, width, 3]`.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}

impl Pixels {
    /// An image of this size.
    ///
    /// # Errors
    /// If a side is 0 or the samples are not three a pixel.
    pub fn new(height: usize, width: usize, data: Vec<u8>) -> Result<Self, PixelsError> {
        check(width, height, data.len())?;
        Ok(Self { width, height, data })
    }

    /// Pixels that a resize has just laid out.
    pub(super) fn of_resize(height: usize, width: usize, data: Vec<u8>) -> Self {
        debug_assert!(check(width, height, data.len()).is_ok());
        Self { width, height, data }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Samples, `[height, width, 3]`.
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
    fn samples_of_another_size_are_refused() {
        for (width, height, samples) in [(0, 0, 0), (1, 1, 4), (2, 1, 3), (usize::MAX, usize::MAX, 3)] {
            assert_eq!(
                RgbView::new(width, height, &vec![0; samples]),
                Err(PixelsError { width, height, samples })
            );
        }
    }
}
