//! The implementation whose defaults a checkpoint runs with. The weights are the same. Preprocessing of
//! texts, special tokens and generation defaults differ.

use std::{fmt, str::FromStr};

use crate::{
    batch::task::Generation,
    checkpoint::{
        config::{Architecture, BlipConfig, vision::VisionConfig},
        text_normalization,
    },
};

/// Which implementation's defaults a model runs with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conventions {
    /// `transformers`: texts as they are, `[CLS]` first, greedy.
    #[default]
    Hf,
    /// The original, `salesforce/BLIP` and LAVIS: texts cleaned and cut as in training, `[ENC]` first where the text
    /// reads an image, beams.
    Salesforce,
}

/// How texts are changed before a model reads them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextConventions {
    /// Applied before a text is tokenised.
    pub(crate) clean_up: Option<fn(&str) -> String>,
    /// Tokens that are kept of a text, `[CLS]` and `[SEP]` included; the last one stays.
    pub(crate) max_tokens: Option<usize>,
    /// Stands where `[CLS]` would.
    pub(crate) first_token: Option<i64>,
    /// What a caption goes on from if nobody says otherwise, and never a part of it.
    pub(crate) prompt: Option<&'static str>,
}

/// Tokens that the original keeps of a question, and of a text that is compared with an image.
const MAX_TOKENS: usize = 35;

impl Conventions {
    const ALL: [Self; 2] = [Self::Hf, Self::Salesforce];

    /// What it is called in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Salesforce => "salesforce",
        }
    }

    /// Sets what the conventions decide of the vision encoder: the original's norms have an epsilon of 1e-6, whatever the
    /// converted `config.json` says.
    pub(crate) fn adapt(self, vision: &mut VisionConfig) {
        if self == Self::Salesforce {
            vision.layer_norm_eps = 1e-6;
        }
    }

    /// What is done to the texts of a model.
    pub(crate) fn texts(self, config: &BlipConfig) -> TextConventions {
        let plain = TextConventions { clean_up: None, max_tokens: None, first_token: None, prompt: None };
        if self == Self::Hf {
            return plain;
        }
        match config.architecture() {
            Architecture::QuestionAnswering => TextConventions {
                clean_up: Some(text_normalization::question),
                max_tokens: Some(MAX_TOKENS),
                first_token: Some(encoder_token(config)),
                ..plain
            },
            Architecture::Captioning => TextConventions { prompt: Some("a picture of "), ..plain },
            Architecture::Retrieval => TextConventions {
                clean_up: Some(text_normalization::caption),
                max_tokens: Some(MAX_TOKENS),
                ..plain
            },
        }
    }

    /// What stands where `[CLS]` would while a text is matched with an image. The original's retrieval evaluation and LAVIS
    /// take `[ENC]`, as in training; when the same text becomes a vector, `[CLS]` stays.
    pub(crate) fn matching_token(self, config: &BlipConfig) -> Option<i64> {
        (self == Self::Salesforce).then(|| encoder_token(config))
    }

    /// The largest token id that the conventions add to texts.
    pub(crate) fn largest_token(self, config: &BlipConfig) -> i64 {
        match self {
            Self::Salesforce if config.architecture() != Architecture::Captioning => encoder_token(config),
            _ => config.text.bos_token_id,
        }
    }

    /// How tokens are chosen if nobody says otherwise. `prompt_tokens` are those of the default prompt, the start
    /// token included.
    pub(crate) fn generation(self, architecture: Architecture, prompt_tokens: usize) -> Generation {
        // The original counts the start token and the prompt.
        let (max_length, min_length) = match (self, architecture) {
            (Self::Salesforce, Architecture::QuestionAnswering) => (10, 1),
            (Self::Salesforce, Architecture::Captioning) => (20, 5),
            _ => return Generation::GREEDY,
        };
        let prompt = u32::try_from(prompt_tokens).unwrap_or(u32::MAX);
        Generation {
            num_beams: 3,
            max_new_tokens: Some(max_length.max(prompt + 1) - prompt),
            min_length,
            ..Generation::GREEDY
        }
    }
}

/// `[ENC]`, the row of the word embeddings behind `[DEC]`, the start token.
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
    fn flavours_are_read_as_they_are_written() {
        for conventions in Conventions::ALL {
            assert_eq!(conventions.to_string().parse(), Ok(conventions));
        }
        let error = "lavis".parse::<Conventions>().unwrap_err();
        assert_eq!(error, "unknown conventions \"lavis\", expected hf or salesforce");
    }

    #[test]
    fn the_originals_lengths_count_start_token_and_prompt() {
        let answers = Conventions::Salesforce.generation(Architecture::QuestionAnswering, 1);
        assert_eq!((answers.num_beams, answers.max_new_tokens, answers.min_length), (3, Some(9), 1));
        let captions = Conventions::Salesforce.generation(Architecture::Captioning, 4);
        assert_eq!((captions.num_beams, captions.max_new_tokens, captions.min_length), (3, Some(16), 5));
        let long = Conventions::Salesforce.generation(Architecture::Captioning, 30);
        assert_eq!(long.max_new_tokens, Some(1), "a prompt past the length leaves one token");
        for architecture in [Architecture::QuestionAnswering, Architecture::Captioning] {
            assert!(Conventions::Hf.generation(architecture, 1).is_greedy());
        }
    }
}
