//! `config.json` and `generation_config.json` as the reference's classes read them.
//!
//! A key that is missing takes the default of `BlipConfig`, `BlipTextConfig` or `BlipVisionConfig`
//! (transformers 5.17, `models/blip/configuration_blip.py`).

use serde::Deserialize;

use crate::{batch::task::RowTask, error::LoadError};

/// What a checkpoint was trained for, by the reference's class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Architecture {
    /// `BlipForQuestionAnswering`: answers to questions.
    #[default]
    QuestionAnswering,
    /// `BlipForConditionalGeneration`: captions.
    Captioning,
    /// `BlipForImageTextRetrieval`: whether text and image match, and vectors of both.
    Retrieval,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::QuestionAnswering, Self::Captioning, Self::Retrieval];

    /// The reference's class.
    pub fn class(self) -> &'static str {
        match self {
            Self::QuestionAnswering => "BlipForQuestionAnswering",
            Self::Captioning => "BlipForConditionalGeneration",
            Self::Retrieval => "BlipForImageTextRetrieval",
        }
    }

    /// Whether a model of this class can do a task.
    pub fn does(self, task: &RowTask) -> bool {
        match task {
            RowTask::Generate(_) => matches!(self, Self::QuestionAnswering | Self::Captioning),
            RowTask::Rank(_) => self == Self::QuestionAnswering,
            RowTask::Match | RowTask::EmbedText | RowTask::EmbedImage => self == Self::Retrieval,
        }
    }
}

/// A checkpoint's towers, with the text decoder, which shares the text tower's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct BlipConfig {
    /// The reference's class, in a list of one; read it by [`Self::architecture`].
    #[serde(rename = "architectures")]
    pub(crate) stated_architectures: Vec<String>,
    /// Width of the vectors that images and texts are compared by.
    pub image_text_hidden_size: i64,
    /// The question encoder and the answer decoder.
    #[serde(rename = "text_config")]
    pub text: TextConfig,
    /// The image encoder.
    #[serde(rename = "vision_config")]
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

/// The shape of the question encoder and of the answer decoder (two copies with weights of their own).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Rows of the word embeddings, the two extra tokens of BLIP included.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Layers of each of the two copies.
    pub num_hidden_layers: i64,
    /// Attention heads if the file states them; read them by [`Self::num_attention_heads`].
    #[serde(rename = "num_attention_heads")]
    pub(crate) stated_heads: Option<i64>,
    /// Rows of the position embeddings: the longest question in tokens, `[CLS]` and `[SEP]` included.
    pub max_position_embeddings: i64,
    /// The feed-forward layer's activation; only the exact `gelu` is known.
    pub hidden_act: String,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
    /// The decoder's first token, `[DEC]`.
    pub bos_token_id: i64,
    /// Fills a batch up to its longest row.
    pub pad_token_id: i64,
    /// Ends a question and an answer.
    pub sep_token_id: i64,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            stated_heads: None,
            max_position_embeddings: 512,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            bos_token_id: 30522,
            pad_token_id: 0,
            sep_token_id: 102,
        }
    }
}

impl TextConfig {
    /// The reference class's default. It is a trap: the released checkpoints have 12 heads, say so in their
    /// `config.json`, and with 8 the same weights load and answer nonsense.
    pub const DEFAULT_HEADS: i64 = 8;

    /// Attention heads of every text layer.
    pub fn num_attention_heads(&self) -> i64 {
        self.stated_heads.unwrap_or(Self::DEFAULT_HEADS)
    }
}

/// The shape of the image encoder, a vision transformer with pre-norm layers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Attention heads; must divide `hidden_size`.
    pub num_attention_heads: i64,
    /// Height and width of the image in pixels.
    pub image_size: i64,
    /// Height and width of a patch in pixels; must divide `image_size`.
    pub patch_size: i64,
    /// The feed-forward layer's activation; only the exact `gelu` is known.
    pub hidden_act: String,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 384,
            patch_size: 16,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// Patches along one side of the image.
    pub fn grid(&self) -> i64 {
        self.image_size / self.patch_size.max(1)
    }

    /// Tokens of an image: its patches and the class token before them.
    pub fn tokens(&self) -> i64 {
        self.grid() * self.grid() + 1
    }

    /// Whether its work on the CPU is too small to be shared among threads: each waits, spinning, for the others after every
    /// product, and on a busy machine that costs far more than it gains.
    pub fn is_small(&self) -> bool {
        self.multiplications() < MULTIPLICATIONS_WORTH_SHARING
    }

    /// Multiplications that encoding one image takes, in the layers' matrix products.
    pub fn multiplications(&self) -> i64 {
        let (tokens, hidden) = (self.tokens(), self.hidden_size);
        let layer =
            tokens * hidden * (4 * hidden + 2 * self.intermediate_size) + 2 * tokens * tokens * hidden;
        self.num_hidden_layers * layer
    }
}

/// Below this many for an image, a model is small.
const MULTIPLICATIONS_WORTH_SHARING: i64 = 1_000_000_000;

const FILE: &str = "config.json";

impl BlipConfig {
    /// Reads `config.json` and checks that its numbers fit together.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] names the key that is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, LoadError> {
        let config: Self = serde_json::from_slice(json).map_err(|error| LoadError::invalid(FILE, error))?;
        config.check().map_err(|reason| LoadError::invalid(FILE, reason))?;
        if config.text.stated_heads.is_none() {
            tracing::warn!(
                heads = TextConfig::DEFAULT_HEADS,
                "config.json does not state text_config.num_attention_heads: taking the reference class's default; \
                 the released BLIP checkpoints have 12, and with 8 their answers are wrong"
            );
        }
        Ok(config)
    }

    /// What the checkpoint was trained for; question answering if the file does not say.
    pub fn architecture(&self) -> Architecture {
        self.known_architecture().unwrap_or_default()
    }

    /// Width of the vectors that texts and images are compared by, if the model makes any.
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
                    "{tower}.hidden_size is {width}, not a multiple of its {heads} attention heads"
                ));
            }
        }
        if vision.image_size % vision.patch_size != 0 {
            return Err(format!(
                "vision_config.image_size is {}, not a multiple of patch_size {}",
                vision.image_size, vision.patch_size
            ));
        }
        // One text configuration serves both copies, so the decoder's cross-attention reads states as wide as
        // the image's; the question encoder writes states as wide as the text.
        if self.architecture() == Architecture::QuestionAnswering && text.hidden_size != vision.hidden_size {
            return Err(format!(
                "text_config.hidden_size is {} and vision_config.hidden_size {}: visual question answering needs them equal",
                text.hidden_size, vision.hidden_size
            ));
        }
        for (tower, act) in [("text_config", &text.hidden_act), ("vision_config", &vision.hidden_act)] {
            if act != "gelu" {
                return Err(format!("{tower}.hidden_act is {act:?}, only \"gelu\" is known"));
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

/// How long an answer may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationConfig {
    /// Tokens that the decoder writes at most, the stop token included, the start token not.
    pub max_new_tokens: i64,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self { max_new_tokens: 20 }
    }
}

impl GenerationConfig {
    /// Reads `generation_config.json`: `max_new_tokens`, or `max_length`, which counts the start token.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] if the file is no JSON, or the number does not fit the positions.
    pub fn parse(json: &[u8], max_positions: i64) -> Result<Self, LoadError> {
        const FILE: &str = "generation_config.json";
        #[derive(Deserialize)]
        struct File {
            max_new_tokens: Option<i64>,
            max_length: Option<i64>,
        }
        let file: File = serde_json::from_slice(json).map_err(|error| LoadError::invalid(FILE, error))?;
        let max_new_tokens = match (file.max_new_tokens, file.max_length) {
            (Some(tokens), _) => tokens,
            (None, Some(length)) => length - 1,
            (None, None) => Self::default().max_new_tokens,
        };
        if !(1..=max_positions).contains(&max_new_tokens) {
            let reason = format!("new tokens are {max_new_tokens}, expected 1 to {max_positions}");
            return Err(LoadError::invalid(FILE, reason));
        }
        Ok(Self { max_new_tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_config_is_the_reference_classes_defaults() {
        let config = BlipConfig::parse(b"{}").unwrap();
        assert_eq!(config.vision.tokens(), 577);
        assert_eq!(config.vision.multiplications() * 2 / 1_000_000_000, 110, "GFLOP, patches left out");
        assert_eq!(config.text.vocab_size, 30524);
        assert_eq!(config.text.num_attention_heads(), 8, "the reference class's own default");
    }

    #[test]
    fn unknown_keys_are_ignored_and_stated_heads_win() {
        let config =
            BlipConfig::parse(br#"{"text_config": {"num_attention_heads": 12, "label_smoothing": 0.1}}"#);
        assert_eq!(config.unwrap().text.num_attention_heads(), 12);
    }

    #[test]
    fn numbers_that_do_not_fit_are_named() {
        for (json, word) in [
            (r#"{"vision_config": {"image_size": 385}}"#, "patch_size"),
            (r#"{"vision_config": {"patch_size": 0}}"#, "patch_size"),
            (r#"{"text_config": {"num_attention_heads": 7}}"#, "attention heads"),
            (r#"{"text_config": {"hidden_size": 1024}}"#, "needs them equal"),
            (r#"{"architectures": ["BlipModel"]}"#, "BlipForImageTextRetrieval"),
            (r#"{"text_config": {"hidden_act": "relu"}}"#, "relu"),
            (r#"{"text_config": {"sep_token_id": 30524}}"#, "sep_token_id"),
            (r#"{"text_config": {"vocab_size": "many"}}"#, "invalid type"),
        ] {
            let error = BlipConfig::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{json}: {error}");
        }
    }

    #[test]
    fn max_length_counts_the_start_token() {
        let new =
            |json: &str| GenerationConfig::parse(json.as_bytes(), 512).map(|config| config.max_new_tokens);
        assert_eq!(new(r#"{"max_length": 20}"#).unwrap(), 19);
        assert_eq!(new(r#"{"max_new_tokens": 5, "max_length": 20}"#).unwrap(), 5);
        assert_eq!(new("{}").unwrap(), 20);
        assert!(new(r#"{"max_length": 1}"#).is_err());
        assert!(new(r#"{"max_new_tokens": 513}"#).is_err());
    }
}
