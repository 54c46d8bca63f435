//! Image preprocessing, equal bit for bit to the reference's on Pillow (10.4 to 12.3).
//!
//! RGB pixels are scaled to the model's size in 8 bits by [`Preprocessor::resize`]; the model then
//! turns them into floats by `x * scale + offset` with [`Preprocessor::normalisation`], on whatever
//! device it runs. The reference is `BlipImageProcessorPil` of `transformers`.

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
use taps::TapsCache;

/// Scales images to the model's size and knows how the model normalises them. Clones share the
/// cache of filter weights.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    config: PreprocessorConfig,
    taps: Arc<Mutex<TapsCache>>,
}

impl Preprocessor {
    /// A preprocessor after `config`.
    #[must_use]
    pub fn new(config: PreprocessorConfig) -> Self {
        Self { config, taps: Arc::default() }
    }

    /// A preprocessor after the bytes of a `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`PreprocessorConfigError`], naming the key.
    pub fn from_json(json: &[u8]) -> Result<Self, PreprocessorConfigError> {
        Ok(Self::new(PreprocessorConfig::from_json(json)?))
    }

    /// What it was made after.
    #[must_use]
    pub fn config(&self) -> &PreprocessorConfig {
        &self.config
    }

    /// The height that the model takes, in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.config.height
    }

    /// The width that the model takes, in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.config.width
    }

    /// `image` at the model's size, aspect ratio not kept.
    ///
    /// Equal bit for bit to Pillow's `resize`: horizontally, then vertically, each pass rounded to 8
    /// bits; a pass that would change no length is left out.
    #[must_use]
    pub fn resize(&self, image: RgbView<'_>) -> Pixels {
        let (across, down) = {
            let mut cache = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
            let filter = self.config.filter;
            (cache.get(filter, image.width(), self.width()), cache.get(filter, image.height(), self.height()))
        };
        resize::resize(image, &across, &down)
    }

    /// `(scale, offset)` of each channel, such that the model's input is `x * scale + offset` for a
    /// pixel `x` of 0 to 255.
    #[must_use]
    pub fn normalisation(&self) -> ([f32; 3], [f32; 3]) {
        let PreprocessorConfig { rescale_factor, mean, std, .. } = self.config;
        let [r, g, b] = [0, 1, 2].map(|c: usize| {
            let (mean, std) = (mean.get(c).copied().unwrap_or(0.0), std.get(c).copied().unwrap_or(1.0));
            ((rescale_factor / std) as f32, (-mean / std) as f32)
        });
        ([r.0, g.0, b.0], [r.1, g.1, b.1])
    }

    /// The model's input for `pixels`, `[3, height, width]`: what the model computes by itself, here
    /// for comparison and for use without a device.
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

    /// What the reference computes: rescale and normalise in turn, in 64 bits.
    fn reference(x: u8, mean: f64, std: f64) -> f64 {
        (f64::from(x) / 255.0 - mean) / std
    }

    #[test]
    fn every_level_of_every_channel_is_normalised_as_by_the_reference() {
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
    fn image_of_the_right_size_is_left_as_it_is() {
        let config = PreprocessorConfig { width: 5, height: 3, ..PreprocessorConfig::default() };
        let data: Vec<u8> = (0..45).collect();
        let pixels = Preprocessor::new(config).resize(RgbView::new(5, 3, &data).unwrap());
        assert_eq!(pixels.data(), data);
    }
}
