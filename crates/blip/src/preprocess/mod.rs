//! Image preprocessing, equal bit for bit to the reference on Pillow (10.4 to 12.3).
//!
//! [`Preprocessor::resize`] scales RGB pixels to the model's size in 8 bits. The model then
//! converts them to floats on its device: `x * scale + offset`, with
//! [`Preprocessor::normalisation`]. The reference is `BlipImageProcessorPil` of `transformers`.

mod config;
mod resize;
mod passes;
mod pixels;
mod taps;
mod filter;

use std::sync::{Arc, Mutex, PoisonError};

pub use config::{PreprocessorConfig, PreprocessorConfigError};
pub use filter::Filter;
pub use pixels::{Pixels, PixelsError, RgbView};
use taps::{Taps, TapsCache};

/// Scales images to the model's size and returns the constants of their normalization. Clones share
/// the cache of filter weights.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    config: PreprocessorConfig,
    taps: Arc<Mutex<TapsCache>>,
}

impl Preprocessor {
    /// Creates a preprocessor for `config`.
    #[must_use]
    pub fn new(config: PreprocessorConfig) -> Self {
        Self { config, taps: Arc::default() }
    }

    /// Creates a preprocessor for the content of a `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`PreprocessorConfigError`] names the invalid key.
    pub fn from_json(json: &[u8]) -> Result<Self, PreprocessorConfigError> {
        Ok(Self::new(PreprocessorConfig::from_json(json)?))
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &PreprocessorConfig {
        &self.config
    }

    /// Returns the height of the model's input, in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.config.height
    }

    /// Returns the width of the model's input, in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.config.width
    }

    /// Scales `image` to the model's size, without preserving the aspect ratio.
    ///
    /// The result equals Pillow's `resize` bit for bit: first horizontally, then vertically, with
    /// each pass rounded to 8 bits. A pass that would not change the length is left out.
    #[must_use]
    pub fn resize(&self, image: RgbView<'_>) -> Pixels {
        let (across, down) = self.taps_for(image);
        resize::resize(image, &across, &down)
    }

    /// Scales `image` like [`resize`](Self::resize), and writes the samples to the start of `data`.
    ///
    /// Returns their number, or `None` if `data` is shorter.
    pub fn resize_into(&self, image: RgbView<'_>, data: &mut [u8]) -> Option<usize> {
        let samples = 3 * self.width() * self.height();
        let data = data.get_mut(..samples)?;
        let (across, down) = self.taps_for(image);
        resize::resize_into(image, &across, &down, data);
        Some(samples)
    }

    fn taps_for(&self, image: RgbView<'_>) -> (Arc<Taps>, Arc<Taps>) {
        let mut cache = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = self.config.filter;
        (cache.get(filter, image.width(), self.width()), cache.get(filter, image.height(), self.height()))
    }

    /// Returns `(scale, offset)` of each channel. The model's input is `x * scale + offset` for a
    /// pixel `x` of 0 to 255.
    #[must_use]
    pub fn normalisation(&self) -> ([f32; 3], [f32; 3]) {
        self.config.normalisation()
    }

    /// Returns the model's input for `pixels`, `[3, height, width]`. The model computes the same on
    /// its device. This function serves comparisons and use without a device.
    #[must_use]
    pub fn normalised(&self, pixels: &Pixels) -> Vec<f32> {
        let (scale, offset) = self.normalisation();
        let channels = scale.into_iter().zip(offset).enumerate();
        let mut planes = Vec::with_capacity(pixels.data().len());
        for (channel, (scale, offset)) in channels {
            let samples = pixels.data().iter().skip(channel).step_by(3);
            planes.extend(samples.map(|&x| f32::from(x) * scale + offset));
        }
        planes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rescales and normalizes in two steps in f64, as the reference does.
    fn reference(x: u8, mean: f64, std: f64) -> f64 {
        (f64::from(x) / 255.0 - mean) / std
    }

    #[test]
    fn every_level_of_every_channel_is_normalised_like_reference() {
        let preprocessor = Preprocessor::new(PreprocessorConfig::default());
        let data: Vec<u8> = (0..=255).flat_map(|level| [level; 3]).collect();
        let planes = preprocessor.normalised(&Pixels::new(1, 256, data).unwrap());
        let PreprocessorConfig { mean, std, .. } = *preprocessor.config();
        for (channel, plane) in planes.chunks_exact(256).enumerate() {
            for (level, &value) in (0..=255).zip(plane) {
                let exact = reference(level, mean[channel], std[channel]);
                assert!((f64::from(value) - exact).abs() < 4e-7, "{channel} {level}: {value} is not {exact}");
            }
        }
    }

    #[test]
    fn image_of_model_size_is_unchanged() {
        let config = PreprocessorConfig { width: 5, height: 3, ..PreprocessorConfig::default() };
        let data: Vec<u8> = (0..45).collect();
        let pixels = Preprocessor::new(config).resize(RgbView::new(5, 3, &data).unwrap());
        assert_eq!(pixels.data(), data);
    }
}
