//! `config.json`: the architecture and the shapes of a model, as the reference classes read it.
//!
//! A missing key has the default of `BlipConfig`, `BlipTextConfig` or `BlipVisionConfig`
//! (transformers 5.17, `models/blip/configuration_blip.py`).

pub(crate) mod vision;
pub(crate) mod text;
pub(crate) mod generation;

use serde::{Deserialize, Deserializer};

use crate::{
    batch::task::RowTask,
    checkpoint::config::{text::TextConfig, vision::VisionConfig},
    error::LoadError,
};

/// Task family that a checkpoint was trained for, named after the reference class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Architecture {
    /// `BlipForQuestionAnswering`: answers to questions.
    #[default]
    QuestionAnswering,
    /// `BlipForConditionalGeneration`: captions.
    Captioning,
    /// `BlipForImageTextRetrieval`: scores of text and image, and vectors of both.
    Retrieval,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::QuestionAnswering, Self::Captioning, Self::Retrieval];

    /// Returns the name of the reference class.
    pub fn class(self) -> &'static str {
        match self {
            Self::QuestionAnswering => "BlipForQuestionAnswering",
            Self::Captioning => "BlipForConditionalGeneration",
            Self::Retrieval => "BlipForImageTextRetrieval",
        }
    }

    /// Returns whether a model of this architecture supports a task.
    pub fn supports(self, task: &RowTask) -> bool {
        match task {
            RowTask::Generate(generation) => match self {
                Self::QuestionAnswering => true,
                Self::Captioning => !generation.explain,
                Self::Retrieval => false,
            },
            RowTask::Rank(_) => self == Self::QuestionAnswering,
            RowTask::Match | RowTask::EmbedText | RowTask::EmbedImage => self == Self::Retrieval,
        }
    }
}

/// Configuration of a model. The text decoder shares the configuration of the text encoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct BlipConfig {
    /// Names of reference classes in the file, one in practice. [`Self::architecture`] interprets
    /// them.
    #[serde(rename = "architectures", deserialize_with = "null_as_default")]
    pub(crate) stated_architectures: Vec<String>,
    /// Width of the vectors of images and texts.
    pub image_text_hidden_size: i64,
    /// Shape of the text encoder and of the text decoder.
    #[serde(rename = "text_config", deserialize_with = "null_as_default")]
    pub text: TextConfig,
    /// Shape of the vision encoder.
    #[serde(rename = "vision_config", deserialize_with = "null_as_default")]
    pub vision: VisionConfig,
}

impl Default for BlipConfig {
    fn default() -> Self {
        Self {
            stated_architectures: Vec::new(),
            image_text_hidden_size: 256,
            text: TextConfig::default(),
            vision: VisionConfig::default(),
        }
    }
}

/// Reads null as the default, as the reference class does.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

const FILE: &str = "config.json";

impl BlipConfig {
    /// Reads the content of `config.json` and checks that its values are consistent.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] names the invalid key.
    pub fn parse(json: &[u8]) -> Result<Self, LoadError> {
        let config: Self = serde_json::from_slice(json).map_err(|error| LoadError::invalid(FILE, error))?;
        config.check().map_err(|reason| LoadError::invalid(FILE, reason))?;
        if config.text.stated_heads.is_none() {
            tracing::warn!(
                heads = TextConfig::DEFAULT_HEADS,
                "default number of attention heads used: config.json has no text_config.num_attention_heads, \
                the released BLIP checkpoints have 12 and answer wrongly with 8"
            );
        }
        Ok(config)
    }

    /// Returns the architecture, which is question answering if the file names none.
    pub fn architecture(&self) -> Architecture {
        self.known_architecture().unwrap_or_default()
    }

    /// Returns the width of the vectors of texts and images, if the model computes vectors.
    pub fn embedding_size(&self) -> Option<i64> {
        (self.architecture() == Architecture::Retrieval).then_some(self.image_text_hidden_size)
    }

    fn known_architecture(&self) -> Option<Architecture> {
        let [stated] = self.stated_architectures.as_slice() else { return None };
        Architecture::ALL.into_iter().find(|architecture| architecture.class() == stated)
    }

    fn check(&self) -> Result<(), String> {
        if self.known_architecture().is_none() && !self.stated_architectures.is_empty() {
            let known = Architecture::ALL.map(Architecture::class).join(", ");
            return Err(format!("architectures is {:?}, expected one of {known}", self.stated_architectures));
        }
        let (text, vision) = (&self.text, &self.vision);
        for (key, value, limit) in [
            ("image_text_hidden_size", self.image_text_hidden_size, 1 << 16),
            ("text_config.vocab_size", text.vocab_size, 1 << 24),
            ("text_config.hidden_size", text.hidden_size, 1 << 16),
            ("text_config.intermediate_size", text.intermediate_size, 1 << 18),
            ("text_config.num_hidden_layers", text.num_hidden_layers, 1 << 10),
            ("text_config.num_attention_heads", text.num_attention_heads(), 1 << 10),
            ("text_config.max_position_embeddings", text.max_position_embeddings, 1 << 20),
            ("vision_config.hidden_size", vision.hidden_size, 1 << 16),
            ("vision_config.intermediate_size", vision.intermediate_size, 1 << 18),
            ("vision_config.num_hidden_layers", vision.num_hidden_layers, 1 << 10),
            ("vision_config.num_attention_heads", vision.num_attention_heads, 1 << 10),
            ("vision_config.image_size", vision.image_size, 1 << 13),
            ("vision_config.patch_size", vision.patch_size, 1 << 13),
        ] {
            if !(1..=limit).contains(&value) {
                return Err(format!("{key} is {value}, expected 1 to {limit}"));
            }
        }
        for (tower, width, heads) in [
            ("text_config", text.hidden_size, text.num_attention_heads()),
            ("vision_config", vision.hidden_size, vision.num_attention_heads),
        ] {
            if width % heads != 0 {
                return Err(format!(
                    "{tower}.hidden_size is {width}, expected a multiple of its {heads} attention heads"
                ));
            }
        }
        if vision.image_size % vision.patch_size != 0 {
            return Err(format!(
                "vision_config.image_size is {}, not a multiple of patch_size {}",
                vision.image_size, vision.patch_size
            ));
        }
        // Text encoder and text decoder share one configuration. Therefore the cross-attention of
        // both reads states of the image's width. The decoder reads the text encoder's states,
        // which have the text's width.
        if self.architecture() == Architecture::QuestionAnswering && text.hidden_size != vision.hidden_size {
            return Err(format!(
                "text_config.hidden_size is {} and vision_config.hidden_size is {}, \
                 expected equal sizes for question answering",
                text.hidden_size, vision.hidden_size
            ));
        }
        for (tower, act) in [("text_config", &text.hidden_act), ("vision_config", &vision.hidden_act)] {
            if act != "gelu" {
                return Err(format!("{tower}.hidden_act is {act:?}, expected \"gelu\""));
            }
        }
        for (key, id) in [
            ("bos_token_id", text.bos_token_id),
            ("pad_token_id", text.pad_token_id),
            ("sep_token_id", text.sep_token_id),
        ] {
            if !(0..text.vocab_size).contains(&id) {
                return Err(format!(
                    "text_config.{key} is {id}, expected below vocab_size {}",
                    text.vocab_size
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_config_equals_reference_defaults() {
        let config = BlipConfig::parse(b"{}").unwrap();
        assert_eq!(config.vision.tokens(), 577);
        assert_eq!(config.vision.multiplications() * 2 / 1_000_000_000, 110, "GFLOP, patches left out");
        assert_eq!(config.text.vocab_size, 30524);
        assert_eq!(config.text.num_attention_heads(), 8, "the default of the reference class");
    }

    #[test]
    fn largest_config_has_a_number_of_multiplications() {
        let largest = br#"{"vision_config": {"image_size": 8192, "patch_size": 1, "hidden_size": 65536,
            "intermediate_size": 262144, "num_hidden_layers": 1024, "num_attention_heads": 1},
            "text_config": {"hidden_size": 65536, "num_attention_heads": 1}}"#;
        assert_eq!(BlipConfig::parse(largest).unwrap().vision.multiplications(), i64::MAX);
    }

    #[test]
    fn null_is_read_as_a_missing_key() {
        let nulls = br#"{"architectures": null, "text_config": null, "vision_config": null}"#;
        assert_eq!(BlipConfig::parse(nulls).unwrap(), BlipConfig::default());
    }

    #[test]
    fn unknown_keys_are_ignored_and_stated_heads_are_used() {
        let config =
            BlipConfig::parse(br#"{"text_config": {"num_attention_heads": 12, "label_smoothing": 0.1}}"#);
        assert_eq!(config.unwrap().text.num_attention_heads(), 12);
    }

    #[test]
    fn inconsistent_values_are_rejected_by_name() {
        for (json, word) in [
            (r#"{"vision_config": {"image_size": 385}}"#, "patch_size"),
            (r#"{"vision_config": {"patch_size": 0}}"#, "patch_size"),
            (r#"{"text_config": {"num_attention_heads": 7}}"#, "attention heads"),
            (r#"{"text_config": {"hidden_size": 1024}}"#, "expected equal sizes"),
            (r#"{"architectures": ["BlipModel"]}"#, "BlipForImageTextRetrieval"),
            (r#"{"text_config": {"hidden_act": "relu"}}"#, "relu"),
            (r#"{"text_config": {"sep_token_id": 30524}}"#, "sep_token_id"),
            (r#"{"text_config": {"vocab_size": "many"}}"#, "invalid type"),
        ] {
            let error = BlipConfig::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{json}: {error}");
        }
    }
}
