//! Whose habits a checkpoint is run with: the weights are the same, what goes in and how it is read differ.

use std::{fmt, str::FromStr};

use crate::{
    batch::task::Generation,
    checkpoint::{
        config::{Architecture, BlipConfig, vision::VisionConfig},
        text_normalization,
    },
};

/// Whose habits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flavour {
    /// `transformers`: texts as they are, `[CLS]` first, greedy.
    #[default]
    Hf,
    /// The original, `salesforce/BLIP` and LAVIS: texts cleaned and cut as in training, `[ENC]` first where the text
    /// reads an image, beams.
    Salesforce,
}

/// What a flavour does to texts before a model sees them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextHabits {
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

impl Flavour {
    const ALL: [Self; 2] = [Self::Hf, Self::Salesforce];

    /// What it is called in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Salesforce => "salesforce",
        }
    }

    /// Sets what a flavour decides of the image encoder: the original's norms have an epsilon of 1e-6, whatever the
    /// converted `config.json` says.
    pub(crate) fn adapt(self, vision: &mut VisionConfig) {
        if self == Self::Salesforce {
            vision.layer_norm_eps = 1e-6;
        }
    }

    /// What is done to the texts of a model.
    pub(crate) fn texts(self, config: &BlipConfig) -> TextHabits {
        let plain = TextHabits { clean_up: None, max_tokens: None, first_token: None, prompt: None };
        if self == Self::Hf {
            return plain;
        }
        match config.architecture() {
            Architecture::QuestionAnswering => TextHabits {
                clean_up: Some(text_normalization::question),
                max_tokens: Some(MAX_TOKENS),
                first_token: Some(encoder_token(config)),
                ..plain
            },
            Architecture::Captioning => TextHabits { prompt: Some("a picture of "), ..plain },
            Architecture::Retrieval => TextHabits {
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

    /// The largest token id that a flavour puts into texts by itself.
    pub(crate) fn largest_token(self, config: &BlipConfig) -> i64 {
        match self {
            Self::Salesforce if config.architecture() != Architecture::Captioning => encoder_token(config),
            _ => config.text.bos_token_id,
        }
    }

    /// How tokens are chosen if nobody says otherwise. `prompt_tokens` are those of the flavour's own prompt, the start
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

impl FromStr for Flavour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|flavour| flavour.name() == text);
        known.ok_or_else(|| format!("unknown flavour {text:?}, expected hf or salesforce"))
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavours_are_read_as_they_are_written() {
        for flavour in Flavour::ALL {
            assert_eq!(flavour.to_string().parse(), Ok(flavour));
        }
        let error = "lavis".parse::<Flavour>().unwrap_err();
        assert_eq!(error, "unknown flavour \"lavis\", expected hf or salesforce");
    }

    #[test]
    fn the_originals_lengths_count_start_token_and_prompt() {
        let answers = Flavour::Salesforce.generation(Architecture::QuestionAnswering, 1);
        assert_eq!((answers.num_beams, answers.max_new_tokens, answers.min_length), (3, Some(9), 1));
        let captions = Flavour::Salesforce.generation(Architecture::Captioning, 4);
        assert_eq!((captions.num_beams, captions.max_new_tokens, captions.min_length), (3, Some(16), 5));
        let long = Flavour::Salesforce.generation(Architecture::Captioning, 30);
        assert_eq!(long.max_new_tokens, Some(1), "a prompt past the length leaves one token");
        for architecture in [Architecture::QuestionAnswering, Architecture::Captioning] {
            assert!(Flavour::Hf.generation(architecture, 1).is_greedy());
        }
    }
}
