//! Checkpoints: configuration, tokenizer, preprocessing, conventions and weights of a model.

pub(crate) mod parameter_count;
pub(crate) mod tokenizer;
pub(crate) mod conventions;
pub(crate) mod config;
pub(crate) mod text_normalization;
pub(crate) mod weights;
pub(crate) mod files;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    batch::task::Generation,
    checkpoint::{
        config::{Architecture, BlipConfig, generation::GenerationConfig},
        conventions::Conventions,
        files::{ModelFiles, PREPROCESSOR_FILES, PREPROCESSORS},
        tokenizer::Tokenizer,
        weights::Weights,
    },
    error::LoadError,
    preprocess::{Preprocessor, PreprocessorConfig},
};

/// Options of opening a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Implementation whose defaults the model uses.
    pub conventions: Conventions,
    /// Height and width of images in pixels, a multiple of the patch size. `None` uses the size in
    /// `config.json`. For another size the position embeddings are interpolated.
    pub image_size: Option<u32>,
}

/// Largest image size, in pixels, above every tested size. It prevents a typing error from
/// requesting a million patches for each image.
const MAX_IMAGE_SIZE: u32 = 4096;

/// An open and validated checkpoint. Its weights are not in memory yet.
#[derive(Debug)]
pub struct Checkpoint {
    config: BlipConfig,
    generation: GenerationConfig,
    preprocessor: Preprocessor,
    tokenizer: Tokenizer,
    weights: Weights,
    conventions: Conventions,
}

impl Checkpoint {
    /// Opens a checkpoint with default options.
    ///
    /// The weights remain in their files until a model is loaded. A file that changes meanwhile is
    /// an error of loading.
    ///
    /// # Errors
    /// [`LoadError`] names the file that is missing or invalid.
    pub fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        Self::open_with(files, CheckpointOptions::default())
    }

    /// Opens a checkpoint with these options, as [`Self::open`].
    ///
    /// # Errors
    /// [`LoadError`] names the file that is missing or invalid, or the option that the checkpoint
    /// does not support.
    pub fn open_with(files: &ModelFiles, options: CheckpointOptions) -> Result<Self, LoadError> {
        files.check()?;
        let mut config = BlipConfig::parse(&files.require("config.json")?)?;
        options.conventions.adapt(&mut config.vision);
        let generation = match files.read("generation_config.json")? {
            Some(json) => GenerationConfig::parse(&json, config.text.max_position_embeddings)?,
            None => GenerationConfig::default(),
        };
        let (file, mut preprocessor) = preprocessor(files)?;
        match options.image_size {
            Some(size) => {
                config.vision.image_size = checked_image_size(size, config.vision.patch_size)?;
                let side = size as usize;
                let resized = PreprocessorConfig { width: side, height: side, ..*preprocessor.config() };
                preprocessor = Preprocessor::new(resized);
            }
            None => check_same_size(file, &preprocessor, &config)?,
        }
        let tokenizer = Tokenizer::open(files, &config, options.conventions)?;
        let weights = Weights::open(files)?;
        Ok(Self { config, generation, preprocessor, tokenizer, weights, conventions: options.conventions })
    }

    /// Returns the architecture that the checkpoint was trained for.
    pub fn architecture(&self) -> Architecture {
        self.config.architecture()
    }

    /// Returns the conventions that the checkpoint was opened with.
    pub fn conventions(&self) -> Conventions {
        self.conventions
    }

    /// Returns the generation options of requests that set none.
    ///
    /// Those of [`Conventions::Hf`] are in `generation_config.json`. If the options have no number
    /// of new tokens, the number in [`Self::generation`] applies, unless [`crate::LoadOptions`]
    /// sets another. For captions, the number applies to the default prompt of the conventions.
    pub fn default_generation(&self) -> Generation {
        let prompt = self.tokenizer.encode_prompt("").map_or(1, |prompt| prompt.len());
        let of_file = self.generation.options();
        self.conventions.generation(self.architecture(), prompt).unwrap_or(of_file)
    }

    /// Returns the configuration of the model.
    pub fn config(&self) -> &BlipConfig {
        &self.config
    }

    /// Returns the generation options in the checkpoint.
    pub fn generation(&self) -> GenerationConfig {
        self.generation
    }

    /// Returns the preprocessor, which scales images to the model's size.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Returns the tokenizer, which converts texts to token ids and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the tensors by name.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}

/// Returns the image size in pixels if the vision encoder can divide it into patches.
fn checked_image_size(size: u32, patch: i64) -> Result<i64, LoadError> {
    let pixels = i64::from(size);
    if size == 0 || size > MAX_IMAGE_SIZE || pixels % patch != 0 {
        return Err(LoadError::ImageSize { size, patch, limit: MAX_IMAGE_SIZE });
    }
    Ok(pixels)
}

/// Reads the preprocessor, with the name of its file.
///
/// As in transformers 5.17, `image_processor` in `processor_config.json` precedes
/// `preprocessor_config.json`. The reference writes only the former since version 5.
fn preprocessor(files: &ModelFiles) -> Result<(&'static str, Preprocessor), LoadError> {
    #[derive(Deserialize)]
    struct Processor {
        image_processor: Option<Value>,
    }
    let [processor, image_processor] = PREPROCESSORS;
    let open = |file, json: &[u8]| match Preprocessor::from_json(json) {
        Ok(preprocessor) => Ok((file, preprocessor)),
        Err(reason) => Err(LoadError::invalid(file, reason)),
    };
    if let Some(json) = files.read(processor)? {
        let found: Processor =
            serde_json::from_slice(&json).map_err(|error| LoadError::invalid(processor, error))?;
        if let Some(settings) = found.image_processor {
            return open(processor, settings.to_string().as_bytes());
        }
    }
    let json = files.read(image_processor)?.ok_or(LoadError::MissingFile(PREPROCESSOR_FILES))?;
    open(image_processor, &json)
}

/// Checks that the preprocessor scales images to the size in `config.json`.
fn check_same_size(file: &str, preprocessor: &Preprocessor, config: &BlipConfig) -> Result<(), LoadError> {
    let size = usize::try_from(config.vision.image_size).unwrap_or(0);
    let (height, width) = (preprocessor.height(), preprocessor.width());
    if (height, width) == (size, size) {
        return Ok(());
    }
    let reason = format!("size is {height} x {width}, config.json has vision_config.image_size {size}");
    Err(LoadError::invalid(file, reason))
}
