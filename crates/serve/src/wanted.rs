//! What a request wants of its images: answers, captions, matches or vectors.

use blip::{Architecture, Generation};

use crate::{
    errors::{Reason, Refusal},
    generation::{draws_a_seed, resolve},
    proto::GenerationOptions,
    settings::RequestLimits,
};

/// What is wanted of every image of a request with each of its texts.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The texts are questions.
    Answers(GenerationOptions),
    /// The texts are what captions begin with.
    Captions {
        /// How they are written.
        generation: GenerationOptions,
        /// Whether pieces are wanted as they are written.
        pieces: bool,
    },
    /// The texts may describe the image.
    Matches,
    /// The texts are to be vectors, where there is no image; otherwise the image is.
    Vectors,
}

/// The same for a certain model, its options checked and filled in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// The texts are questions.
    Answer(Generation),
    /// The texts are what captions begin with.
    Caption(Generation),
    /// The texts may describe the image.
    Match,
    /// The texts, or else the image, are to be vectors.
    Vector,
}

impl Default for Wanted {
    /// Answers, as the model gives them by itself.
    fn default() -> Self {
        Self::Answers(GenerationOptions::default())
    }
}

impl Wanted {
    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answers(_) => "answers to questions",
            Self::Captions { .. } => "captions",
            Self::Matches => "matches",
            Self::Vectors => "vectors",
        }
    }

    /// Which models are for it.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Answers(_) => Architecture::QuestionAnswering,
            Self::Captions { .. } => Architecture::Captioning,
            Self::Matches | Self::Vectors => Architecture::Retrieval,
        }
    }

    /// Whether the same request, asked again, is to be answered with the same: chance has no part in it that the request does
    /// not name, and nobody waits for pieces as they are written.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        match self {
            Self::Answers(options) => !draws_a_seed(options),
            Self::Captions { generation, pieces } => !pieces && !draws_a_seed(generation),
            Self::Matches | Self::Vectors => true,
        }
    }

    /// What it comes to with a model whose own way of writing is `own`.
    ///
    /// # Errors
    /// A [`Refusal`] that names the option at fault.
    pub fn purpose(&self, own: Generation, limits: &RequestLimits) -> Result<Purpose, Refusal> {
        Ok(match self {
            Self::Answers(options) => Purpose::Answer(resolve(options, own, limits)?),
            Self::Captions { generation, pieces } => {
                let generation = resolve(generation, own, limits)?;
                if *pieces && (generation.num_beams > 1 || generation.num_sequences > 1) {
                    return Err(Refusal::new(Reason::GenerationConflict)
                        .field("stream_tokens")
                        .cause("pieces are known only of a single caption without beam search"));
                }
                Purpose::Caption(Generation { report_tokens: *pieces, ..generation })
            }
            Self::Matches => Purpose::Match,
            Self::Vectors => Purpose::Vector,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn each_kind_of_request_is_for_one_architecture() {
        let captions = Wanted::Captions { generation: GenerationOptions::default(), pieces: false };
        for (wanted, architecture) in [
            (Wanted::default(), Architecture::QuestionAnswering),
            (captions, Architecture::Captioning),
            (Wanted::Matches, Architecture::Retrieval),
            (Wanted::Vectors, Architecture::Retrieval),
        ] {
            assert_eq!(wanted.architecture(), architecture);
        }
    }

    #[test]
    fn what_hangs_on_chance_or_is_wanted_piece_by_piece_is_not_repeatable() {
        let (plain, seed) = (GenerationOptions::default(), Some(7));
        let drawn = GenerationOptions { top_k: Some(3), ..plain };
        let captions = |generation, pieces| Wanted::Captions { generation, pieces };
        for (wanted, is_repeatable) in [
            (Wanted::Answers(plain), true),
            (Wanted::Answers(GenerationOptions { num_beams: Some(3), ..plain }), true),
            (Wanted::Answers(GenerationOptions { sample: Some(true), ..plain }), false),
            (Wanted::Answers(drawn), false),
            (Wanted::Answers(GenerationOptions { seed, ..drawn }), true),
            (captions(plain, false), true),
            (captions(plain, true), false),
            (captions(drawn, false), false),
            (Wanted::Matches, true),
            (Wanted::Vectors, true),
        ] {
            assert_eq!(wanted.is_repeatable(), is_repeatable, "{wanted:?}");
        }
    }

    #[test]
    fn pieces_of_a_beam_search_are_refused() {
        let limits = Settings::default().limits;
        let captions = |num_beams| Wanted::Captions {
            generation: GenerationOptions { num_beams, ..GenerationOptions::default() },
            pieces: true,
        };
        let purpose = captions(None).purpose(Generation::GREEDY, &limits).unwrap();
        assert_eq!(purpose, Purpose::Caption(Generation { report_tokens: true, ..Generation::GREEDY }));
        let refusal = captions(Some(2)).purpose(Generation::GREEDY, &limits).unwrap_err();
        assert_eq!(refusal.reason(), Reason::GenerationConflict);
    }
}
