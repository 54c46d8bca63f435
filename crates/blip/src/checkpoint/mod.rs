//! An open and validated checkpoint: its configuration, tokenizer, preprocessing and weights.

pub(crate) mod parameter_count;
pub(crate) mod tokenizer;
pub(crate) mod conventions;
pub(crate) mod config;
pub(crate) mod text_normalization;
pub(crate) mod weights;
pub(crate) mod files;
pub(crate) mod mmap;

use crate::{
    batch::task::Generation,
    checkpoint::{
        config::{Architecture, BlipConfig, generation::GenerationConfig},
        conventions::Conventions,
        files::ModelFiles,
        tokenizer::Tokenizer,
        weights::Weights,
    },
    error::LoadError,
    preprocess::{Preprocessor, PreprocessorConfig},
};

/// Options of how a checkpoint is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// The implementation whose defaults the model runs with.
    pub conventions: Conventions,
    /// Height and width of images in pixels, if not what `config.json` says: a multiple of the patch size. The position
    /// embeddings are interpolated.
    pub image_size: Option<u32>,
}

/// Larger than any checkpoint was tried at; keeps a slip of the hand from asking for a million patches an image.
const MAX_IMAGE_SIZE: u32 = 4096;

/// Everything that the files of a model say; the weights are not in memory yet.
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
    /// Opens a model in Hugging Face's layout. The files must not change while they are in use.
    ///
    /// # Errors
    /// [`LoadError`] names the file that is missing or wrong.
    pub fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        Self::open_with(files, CheckpointOptions::default())
    }

    /// As [`Self::open`], with choices.
    ///
    /// # Errors
    /// [`LoadError`] names the file that is missing or wrong, or the choice that the checkpoint cannot follow.
    pub fn open_with(files: &ModelFiles, options: CheckpointOptions) -> Result<Self, LoadError> {
        files.check()?;
        let mut config = BlipConfig::parse(&files.require("config.json")?)?;
        options.conventions.adapt(&mut config.vision);
        let generation = match files.read("generation_config.json")? {
            Some(json) => GenerationConfig::parse(&json, config.text.max_position_embeddings)?,
            None => GenerationConfig::default(),
        };
        let mut preprocessor = match files.read("preprocessor_config.json")? {
            Some(json) => Preprocessor::from_json(&json)
                .map_err(|reason| LoadError::invalid("preprocessor_config.json", reason))?,
            None => return Err(LoadError::MissingFile("preprocessor_config.json")),
        };
        match options.image_size {
            Some(size) => {
                config.vision.image_size = checked(size, config.vision.patch_size)?;
                let side = size as usize;
                let resized = PreprocessorConfig { width: side, height: side, ..*preprocessor.config() };
                preprocessor = Preprocessor::new(resized);
            }
            None => agree(&preprocessor, &config)?,
        }
        let tokenizer = Tokenizer::open(files, &config, options.conventions)?;
        let weights = Weights::open(files)?;
        Ok(Self { config, generation, preprocessor, tokenizer, weights, conventions: options.conventions })
    }

    /// What the checkpoint was trained for.
    pub fn architecture(&self) -> Architecture {
        self.config.architecture()
    }

    /// The implementation whose defaults the model runs with.
    pub fn conventions(&self) -> Conventions {
        self.conventions
    }

    /// How tokens are chosen where a caller says nothing: the default of the conventions. Without a number of new tokens in it, the
    /// model's own holds ([`Self::generation`], unless [`crate::LoadOptions`] says otherwise). For captions, the number is for
    /// the default prompt of the conventions.
    pub fn default_generation(&self) -> Generation {
        let prompt = self.tokenizer.encode_prompt("").map_or(1, |prompt| prompt.len());
        self.conventions.generation(self.architecture(), prompt)
    }

    /// The model's shape.
    pub fn config(&self) -> &BlipConfig {
        &self.config
    }

    /// How long answers may grow.
    pub fn generation(&self) -> GenerationConfig {
        self.generation
    }

    /// Scales pictures to the model's size.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Questions to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tensors, by name.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}

/// An image size that can be cut into patches.
fn checked(size: u32, patch: i64) -> Result<i64, LoadError> {
    let pixels = i64::from(size);
    if size == 0 || size > MAX_IMAGE_SIZE || pixels % patch != 0 {
        return Err(LoadError::ImageSize { size, patch, limit: MAX_IMAGE_SIZE });
    }
    Ok(pixels)
}

/// Whether pictures are scaled to the size that the model is configured for.
fn agree(preprocessor: &Preprocessor, config: &BlipConfig) -> Result<(), LoadError> {
    let size = usize::try_from(config.vision.image_size).unwrap_or(0);
    let (height, width) = (preprocessor.height(), preprocessor.width());
    if (height, width) == (size, size) {
        return Ok(());
    }
    let reason = format!("its size is {height} x {width}, config.json says vision_config.image_size {size}");
    Err(LoadError::invalid("preprocessor_config.json", reason))
}
