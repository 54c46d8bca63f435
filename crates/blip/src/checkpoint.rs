//! A checkpoint that is open and checked: its configuration, tokenizer, preprocessing and weights.

use crate::{
    config::{BlipConfig, GenerationConfig},
    error::LoadError,
    files::ModelFiles,
    preprocess::Preprocessor,
    tokenizer::Tokenizer,
    weights::Weights,
};

/// Everything that the files of a model say; the weights are not in memory yet.
#[derive(Debug)]
pub struct Checkpoint {
    config: BlipConfig,
    generation: GenerationConfig,
    preprocessor: Preprocessor,
    tokenizer: Tokenizer,
    weights: Weights,
}

impl Checkpoint {
    /// Opens a model in Hugging Face's layout. The files must not change while they are in use.
    ///
    /// # Errors
    /// [`LoadError`] names the file that is missing or wrong.
    pub fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        files.check()?;
        let config = BlipConfig::parse(&files.require("config.json")?)?;
        let generation = match files.read("generation_config.json")? {
            Some(json) => GenerationConfig::parse(&json, config.text.max_position_embeddings)?,
            None => GenerationConfig::default(),
        };
        let preprocessor = match files.read("preprocessor_config.json")? {
            Some(json) => Preprocessor::from_json(&json)
                .map_err(|reason| LoadError::invalid("preprocessor_config.json", reason))?,
            None => return Err(LoadError::MissingFile("preprocessor_config.json")),
        };
        let size = usize::try_from(config.vision.image_size).unwrap_or(0);
        if (preprocessor.height(), preprocessor.width()) != (size, size) {
            let found = format!("{} x {}", preprocessor.height(), preprocessor.width());
            let reason = format!("its size is {found}, config.json says vision_config.image_size {size}");
            return Err(LoadError::invalid("preprocessor_config.json", reason));
        }
        let tokenizer = Tokenizer::open(files, &config.text)?;
        let weights = Weights::open(files)?;
        Ok(Self { config, generation, preprocessor, tokenizer, weights })
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
