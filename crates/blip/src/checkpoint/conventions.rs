//! The conventions of a checkpoint: text normalization, special tokens and generation defaults of
//! one of two implementations. The weights are the same.

use std::{fmt, str::FromStr};

use crate::{
    batch::task::Generation,
    checkpoint::{
        config::{Architecture, BlipConfig, vision::VisionConfig},
        text_normalization,
    },
};

/// Implementation whose defaults a model uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conventions {
    /// `transformers`: unchanged texts, `[CLS]` first, greedy decoding.
    #[default]
    Hf,
    /// The original repository `salesforce/BLIP` and LAVIS: texts normalized and truncated as in
    /// training, `[ENC]` first where the text encoder reads an image, beam search.
    Salesforce,
}

/// Changes to texts before a model reads them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextConventions {
    /// Normalization of a text before tokenization.
    pub(crate) normalize: Option<fn(&str) -> String>,
    /// Largest number of tokens, with `[CLS]` and `[SEP]`. Truncation preserves the last token.
    pub(crate) max_tokens: Option<usize>,
    /// Token that replaces `[CLS]`.
    pub(crate) first_token: Option<i64>,
    /// Default prompt of captions. Results do not contain it.
    pub(crate) prompt: Option<&'static str>,
}

/// Largest number of tokens of a question, and of a text that is compared with an image, in the
/// original repository.
const MAX_TOKENS: usize = 35;

impl Conventions {
    const ALL: [Self; 2] = [Self::Hf, Self::Salesforce];

    /// Returns the name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Salesforce => "salesforce",
        }
    }

    /// Applies the conventions to the vision encoder's configuration. The norms of the original
    /// have an epsilon of 1e-6, independent of the converted `config.json`.
    pub(crate) fn adapt(self, vision: &mut VisionConfig) {
        if self == Self::Salesforce {
            vision.layer_norm_eps = 1e-6;
        }
    }

    /// Returns the conventions for the texts of a model.
    pub(crate) fn texts(self, config: &BlipConfig) -> TextConventions {
        let plain = TextConventions { normalize: None, max_tokens: None, first_token: None, prompt: None };
        if self == Self::Hf {
            return plain;
        }
        match config.architecture() {
            Architecture::QuestionAnswering => TextConventions {
                normalize: Some(text_normalization::question),
                max_tokens: Some(MAX_TOKENS),
                first_token: Some(encoder_token(config)),
                ..plain
            },
            Architecture::Captioning => TextConventions { prompt: Some("a picture of "), ..plain },
            Architecture::Retrieval => TextConventions {
                normalize: Some(text_normalization::caption),
                max_tokens: Some(MAX_TOKENS),
                ..plain
            },
        }
    }

    /// Returns the token that replaces `[CLS]` when a text is matched with an image.
    ///
    /// The retrieval evaluation of the original and LAVIS use `[ENC]`, as in training. When the
    /// same text is embedded, `[CLS]` remains.
    pub(crate) fn matching_token(self, config: &BlipConfig) -> Option<i64> {
        (self == Self::Salesforce).then(|| encoder_token(config))
    }

    /// Returns the largest token id that the conventions add to texts.
    pub(crate) fn largest_token(self, config: &BlipConfig) -> i64 {
        match self {
            Self::Salesforce if config.architecture() != Architecture::Captioning => encoder_token(config),
            _ => config.text.bos_token_id,
        }
    }

    /// Returns the default options of generation, or `None` if the checkpoint states them.
    /// `prompt_tokens` is the length of the default prompt with the start token.
    pub(crate) fn generation(self, architecture: Architecture, prompt_tokens: usize) -> Option<Generation> {
        // The lengths of the original include the start token and the prompt.
        let (max_length, min_length) = match (self, architecture) {
            (Self::Salesforce, Architecture::QuestionAnswering) => (10, 1),
            (Self::Salesforce, Architecture::Captioning) => (20, 5),
            (Self::Salesforce, Architecture::Retrieval) => return Some(Generation::GREEDY),
            (Self::Hf, _) => return None,
        };
        let prompt = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
        Some(Generation {
            num_beams: 3,
            max_new_tokens: Some(max_length.max(prompt + 1) - prompt),
            min_length,
            ..Generation::GREEDY
        })
    }
}

/// Returns the id of `[ENC]`. Its word embedding follows that of the start token `[DEC]`.
fn encoder_token(config: &BlipConfig) -> i64 {
    config.text.bos_token_id + 1
}

impl FromStr for Conventions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|conventions| conventions.name() == text);
        known.ok_or_else(|| format!("unknown conventions {text:?}, expected hf or salesforce"))
    }
}

impl fmt::Display for Conventions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventions_parse_from_their_display_form() {
        for conventions in Conventions::ALL {
            assert_eq!(conventions.to_string().parse(), Ok(conventions));
        }
        let error = "lavis".parse::<Conventions>().unwrap_err();
        assert_eq!(error, "unknown conventions \"lavis\", expected hf or salesforce");
    }

    #[test]
    fn original_lengths_include_start_token_and_prompt() {
        let answers = Conventions::Salesforce.generation(Architecture::QuestionAnswering, 1).unwrap();
        assert_eq!((answers.num_beams, answers.max_new_tokens, answers.min_length), (3, Some(9), 1));
        let captions = Conventions::Salesforce.generation(Architecture::Captioning, 4).unwrap();
        assert_eq!((captions.num_beams, captions.max_new_tokens, captions.min_length), (3, Some(16), 5));
        let long = Conventions::Salesforce.generation(Architecture::Captioning, 30).unwrap();
        assert_eq!(long.max_new_tokens, Some(1), "a prompt longer than the limit leaves one token");
        for architecture in [Architecture::QuestionAnswering, Architecture::Captioning] {
            assert_eq!(Conventions::Hf.generation(architecture, 1), None);
        }
    }
}
