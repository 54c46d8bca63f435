//! `preprocessor_config.json`, with the reference class's defaults for missing keys.

use serde::Deserialize;

use crate::preprocess::filter::Filter;

/// Size, filter and normalization of the model's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreprocessorConfig {
    /// Width of the model's input, in pixels.
    pub width: usize,
    /// Height of the model's input, in pixels.
    pub height: usize,
    /// Filter that scales images.
    pub filter: Filter,
    /// Factor of a pixel of 0 to 255, applied before normalization.
    pub rescale_factor: f64,
    /// Subtracted mean of red, green and blue.
    pub mean: [f64; 3],
    /// Standard deviation of red, green and blue, which divides.
    pub std: [f64; 3],
}

/// Error of a `preprocessor_config.json` that this preprocessing does not support.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessorConfigError {
    /// The file is not JSON, or a value has another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// `size` is not a number, `[height, width]` or `{"height": .., "width": ..}`.
    #[error("size must be a number or have height and width")]
    Size,
    /// A side of `size` is out of range.
    #[error("size is {width} x {height}, expected sides of 1 to {limit}", limit = PreprocessorConfig::MAX_SIDE)]
    SizeRange {
        /// Width in the file.
        width: usize,
        /// Height in the file.
        height: usize,
    },
    /// Images are not scaled, although a model accepts images of one size only.
    #[error("do_resize is false, expected true because the model accepts images of one size only")]
    NoResize,
    /// Pillow has no filter of this number.
    #[error("resample is {0}, expected 0 to 5")]
    Resample(i64),
    /// A value is not valid for normalization.
    #[error("{key} must be {expected}")]
    Number {
        /// Key of the value.
        key: &'static str,
        /// Required property of the value.
        expected: &'static str,
    },
}

impl Default for PreprocessorConfig {
    /// Returns the defaults of `BlipImageProcessor`.
    fn default() -> Self {
        Self {
            width: 384,
            height: 384,
            filter: Filter::Bicubic,
            rescale_factor: 1.0 / 255.0,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

impl PreprocessorConfig {
    /// Largest side of the model's input, in pixels. No checkpoint has a larger one. The limit
    /// prevents an invalid file from requesting gigabytes for each image.
    pub const MAX_SIDE: usize = 4096;

    /// Reads the content of a `preprocessor_config.json`. Unknown keys, and keys without effect on
    /// RGB input (`do_convert_rgb`), are ignored.
    ///
    /// # Errors
    /// [`PreprocessorConfigError`] names the invalid key.
    pub fn from_json(json: &[u8]) -> Result<Self, PreprocessorConfigError> {
        let file: File = serde_json::from_slice(json)?;
        let default = Self::default();
        if file.do_resize == Some(false) {
            return Err(PreprocessorConfigError::NoResize);
        }
        let (width, height) = match file.size {
            None => (default.width, default.height),
            Some(Size::Side(side)) => (side, side),
            Some(Size::List([height, width])) => (width, height),
            Some(Size::Sides { width: Some(width), height: Some(height) }) => (width, height),
            Some(Size::Sides { .. }) => return Err(PreprocessorConfigError::Size),
        };
        if !(1..=Self::MAX_SIDE).contains(&width) || !(1..=Self::MAX_SIDE).contains(&height) {
            return Err(PreprocessorConfigError::SizeRange { width, height });
        }
        let filter = match file.resample {
            None => default.filter,
            Some(number) => Filter::from_pillow(number).ok_or(PreprocessorConfigError::Resample(number))?,
        };
        let rescale_factor = match (file.do_rescale, file.rescale_factor) {
            (Some(false), _) => 1.0,
            (_, factor) => factor.unwrap_or(default.rescale_factor),
        };
        let normalise = file.do_normalize.unwrap_or(true);
        let given = |values: Option<Channels>, default, neutral| match values {
            _ if !normalise => [neutral; 3],
            None => default,
            Some(Channels::Each(values)) => values,
            Some(Channels::All(value)) => [value; 3],
        };
        let mean = given(file.image_mean, default.mean, 0.0);
        let std = given(file.image_std, default.std, 1.0);
        let expected = |key, expected| Err(PreprocessorConfigError::Number { key, expected });
        if !rescale_factor.is_finite() {
            return expected("rescale_factor", "finite");
        }
        if !mean.iter().all(|value| value.is_finite()) {
            return expected("image_mean", "finite");
        }
        if !std.iter().all(|value| value.is_finite() && *value > 0.0) {
            return expected("image_std", "finite and greater than 0");
        }
        let config = Self { width, height, filter, rescale_factor, mean, std };
        let (scale, offset) = config.normalisation();
        if !scale.iter().all(|value| value.is_finite()) {
            return expected("image_std", "large enough for a finite 32-bit scale");
        }
        if !offset.iter().all(|value| value.is_finite()) {
            return expected("image_mean", "small enough for a finite 32-bit offset");
        }
        Ok(config)
    }

    /// Returns `(scale, offset)` of each channel. The model's input is `x * scale + offset` for a
    /// pixel `x` of 0 to 255.
    pub(super) fn normalisation(&self) -> ([f32; 3], [f32; 3]) {
        let scale = self.std.map(|std| (self.rescale_factor / std) as f32);
        let ([red, green, blue], [red_std, green_std, blue_std]) = (self.mean, self.std);
        let offset = [(red, red_std), (green, green_std), (blue, blue_std)];
        (scale, offset.map(|(mean, std)| (-mean / std) as f32))
    }
}

#[derive(Deserialize)]
struct File {
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<i64>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Channels>,
    image_std: Option<Channels>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Side(usize),
    /// Height and width.
    List([usize; 2]),
    Sides {
        width: Option<usize>,
        height: Option<usize>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Channels {
    Each([f64; 3]),
    All(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<PreprocessorConfig, String> {
        PreprocessorConfig::from_json(json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn empty_file_equals_reference_defaults() {
        assert_eq!(read("{}"), Ok(PreprocessorConfig::default()));
    }

    #[test]
    fn file_of_released_checkpoint_equals_defaults() {
        let json = r#"{"do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_processor_type": "BlipImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711], "processor_class": "BlipProcessor", "resample": 3,
            "rescale_factor": 0.00392156862745098, "size": {"height": 384, "width": 384}, "size_divisor": 32}"#;
        assert_eq!(read(json), Ok(PreprocessorConfig::default()));
    }

    #[test]
    fn size_is_a_number_or_two_sides() {
        let sides = |json| read(json).map(|config| (config.width, config.height));
        assert_eq!(sides(r#"{"size": 96}"#), Ok((96, 96)));
        assert_eq!(sides(r#"{"size": {"height": 32, "width": 64}}"#), Ok((64, 32)));
        assert_eq!(sides(r#"{"size": [32, 64]}"#), Ok((64, 32)));
        let refused = Err("size must be a number or have height and width".to_owned());
        assert_eq!(sides(r#"{"size": {"shortest_edge": 384}}"#), refused);
        let too_large = Err("size is 0 x 0, expected sides of 1 to 4096".to_owned());
        assert_eq!(sides(r#"{"size": 0}"#), too_large);
    }

    #[test]
    fn disabled_steps_change_nothing() {
        let config = read(r#"{"do_rescale": false, "do_normalize": false, "image_std": [0, 0, 0]}"#).unwrap();
        assert_eq!((config.rescale_factor, config.mean, config.std), (1.0, [0.0; 3], [1.0; 3]));
    }

    #[test]
    fn unsupported_values_are_rejected_by_name() {
        assert_eq!(read(r#"{"resample": 6}"#), Err("resample is 6, expected 0 to 5".into()));
        assert_eq!(
            read(r#"{"image_std": [1, 0, 1]}"#),
            Err("image_std must be finite and greater than 0".into())
        );
        assert_eq!(
            read(r#"{"image_std": 1e-300}"#),
            Err("image_std must be large enough for a finite 32-bit scale".into())
        );
        assert_eq!(
            read(r#"{"image_mean": [0, 1e300, 0]}"#),
            Err("image_mean must be small enough for a finite 32-bit offset".into())
        );
        let no_resize = "do_resize is false, expected true because the model accepts images of one size only";
        assert_eq!(read(r#"{"do_resize": false}"#), Err(no_resize.into()));
        assert!(read("[").is_err());
    }
}
