//! The task of a request, and its resolution for a model.

use blip::{Architecture, Generation};

use crate::{
    config::sections::limits::RequestLimits,
    error::{ErrorReason, RequestError},
    request::{generation::GenerationOptions, item::ItemTask},
};

/// The task of every item of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Answer the texts as questions.
    Answer {
        /// The generation options.
        generation: GenerationOptions,
        /// Whether answers have attention maps.
        explain: bool,
    },
    /// Write captions that begin with the texts.
    Caption {
        /// The generation options.
        generation: GenerationOptions,
        /// Whether tokens are streamed as they are generated.
        stream_tokens: bool,
    },
    /// Score how well the texts describe the image.
    Match,
    /// Embed the images, and the texts that come without an image.
    Embed,
}

impl Default for Task {
    /// Answer questions with the model's generation options.
    fn default() -> Self {
        Self::answer(GenerationOptions::default())
    }
}

impl Task {
    /// Returns the task to answer questions, without attention maps.
    #[must_use]
    pub fn answer(generation: GenerationOptions) -> Self {
        Self::Answer { generation, explain: false }
    }

    /// Returns the noun for what the task produces, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answers to questions",
            Self::Caption { .. } => "captions",
            Self::Match => "matches",
            Self::Embed => "vectors",
        }
    }

    /// Returns the architecture of models that perform the task.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Answer { .. } => Architecture::QuestionAnswering,
            Self::Caption { .. } => Architecture::Captioning,
            Self::Match | Self::Embed => Architecture::Retrieval,
        }
    }

    /// Returns whether the answers have attention maps.
    #[must_use]
    pub fn explains(&self) -> bool {
        matches!(self, Self::Answer { explain: true, .. })
    }

    /// Returns whether the same request always has the same result, so that it can be cached.
    ///
    /// Sampling with a seed that the server draws is not repeatable. Neither is a stream of tokens.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        match self {
            Self::Answer { generation, .. } => !generation.draws_seed(),
            Self::Caption { generation, stream_tokens } => !stream_tokens && !generation.draws_seed(),
            Self::Match | Self::Embed => true,
        }
    }

    /// Resolves the task for a model whose generation options are `defaults`.
    ///
    /// # Errors
    /// A [`RequestError`] that names the invalid option.
    pub fn resolve(&self, defaults: Generation, limits: &RequestLimits) -> Result<ItemTask, RequestError> {
        Ok(match self {
            Self::Answer { generation, explain } => {
                let generation = generation.resolve(defaults, limits)?;
                ItemTask::Answer(Generation { explain: *explain, ..generation })
            }
            Self::Caption { generation, stream_tokens } => {
                let generation = generation.resolve(defaults, limits)?;
                if *stream_tokens && (generation.num_beams > 1 || generation.num_sequences > 1) {
                    return Err(RequestError::new(ErrorReason::GenerationConflict)
                        .field("stream_tokens")
                        .cause("tokens can be streamed only for a single caption without beam search"));
                }
                ItemTask::Caption(Generation { report_tokens: *stream_tokens, ..generation })
            }
            Self::Match => ItemTask::Match,
            Self::Embed => ItemTask::EmbedImage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn each_task_needs_one_architecture() {
        let caption = Task::Caption { generation: GenerationOptions::default(), stream_tokens: false };
        for (task, architecture) in [
            (Task::default(), Architecture::QuestionAnswering),
            (caption, Architecture::Captioning),
            (Task::Match, Architecture::Retrieval),
            (Task::Embed, Architecture::Retrieval),
        ] {
            assert_eq!(task.architecture(), architecture);
        }
    }

    #[test]
    fn tasks_with_random_seeds_or_streams_are_not_repeatable() {
        let (plain, seed) = (GenerationOptions::default(), Some(7));
        let sampled = GenerationOptions { top_k: Some(3), ..plain };
        let caption = |generation, stream_tokens| Task::Caption { generation, stream_tokens };
        for (task, is_repeatable) in [
            (Task::answer(plain), true),
            (Task::answer(GenerationOptions { num_beams: Some(3), ..plain }), true),
            (Task::answer(GenerationOptions { sample: Some(true), ..plain }), false),
            (Task::answer(sampled), false),
            (Task::answer(GenerationOptions { seed, ..sampled }), true),
            (caption(plain, false), true),
            (caption(plain, true), false),
            (caption(sampled, false), false),
            (Task::Match, true),
            (Task::Embed, true),
        ] {
            assert_eq!(task.is_repeatable(), is_repeatable, "{task:?}");
        }
    }

    #[test]
    fn only_explained_answers_resolve_to_explained_items() {
        let limits = Settings::default().limits;
        let generation = GenerationOptions { num_beams: Some(2), ..GenerationOptions::default() };
        for explain in [false, true] {
            let task = Task::Answer { generation, explain };
            assert_eq!((task.explains(), task.is_repeatable()), (explain, true));
            let expected = Generation { num_beams: 2, explain, ..Generation::GREEDY };
            assert_eq!(task.resolve(Generation::GREEDY, &limits).unwrap(), ItemTask::Answer(expected));
        }
    }

    #[test]
    fn token_stream_of_beam_search_is_rejected() {
        let limits = Settings::default().limits;
        let caption = |num_beams| Task::Caption {
            generation: GenerationOptions { num_beams, ..GenerationOptions::default() },
            stream_tokens: true,
        };
        let task = caption(None).resolve(Generation::GREEDY, &limits).unwrap();
        assert_eq!(task, ItemTask::Caption(Generation { report_tokens: true, ..Generation::GREEDY }));
        let error = caption(Some(2)).resolve(Generation::GREEDY, &limits).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::GenerationConflict);
    }
}
