//! The tasks of a row of a batch, and their outputs.

use std::sync::Arc;

use crate::batch::attention_map::AttentionMap;

/// Task of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowTask {
    /// Generates an answer to a question, or a caption that continues a prompt.
    Generate(Generation),
    /// Ranks given answers to a question.
    Rank(Ranking),
    /// Scores whether a text describes an image.
    Match,
    /// Computes the vector of a text, which is compared with vectors of images.
    EmbedText,
    /// Computes the vector of an image. The row has no text.
    EmbedImage,
}

impl Default for RowTask {
    /// One sequence from greedy decoding.
    fn default() -> Self {
        Self::GREEDY
    }
}

impl RowTask {
    /// One sequence from greedy decoding.
    pub const GREEDY: Self = Self::Generate(Generation::GREEDY);

    /// Returns whether each token of the row is reported when it is generated.
    pub fn reports_tokens(&self) -> bool {
        matches!(self, Self::Generate(generation) if generation.report_tokens)
    }

    /// Returns whether the output of the row has an [`AttentionMap`].
    pub fn explains(&self) -> bool {
        match self {
            Self::Generate(generation) => generation.explain,
            Self::Rank(ranking) => ranking.explain,
            Self::Match | Self::EmbedText | Self::EmbedImage => false,
        }
    }

    /// Returns the name of the task in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Generate(_) => "generation",
            Self::Rank(_) => "ranking",
            Self::Match => "matching",
            Self::EmbedText => "text embedding",
            Self::EmbedImage => "image embedding",
        }
    }
}

/// Options of generation. Each has the meaning of the option of the same name in `transformers`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generation {
    /// Number of beams. 1 selects greedy decoding. Sampling ignores this option.
    pub num_beams: u32,
    /// Largest number of tokens after the prompt, with the stop token. `None` uses the number in
    /// the checkpoint.
    pub max_new_tokens: Option<u32>,
    /// Number of tokens before which the stop token is not chosen. It counts start token and
    /// prompt. 0 sets no bound.
    pub min_length: u32,
    /// Exponent of the length by which a beam's score is divided.
    pub length_penalty: f32,
    /// Penalty of tokens that occur already. A value above 1 makes them less likely, 1 is off.
    pub repetition_penalty: f32,
    /// Sampling instead of the most likely tokens.
    pub sampling: Option<Sampling>,
    /// Number of sequences to return, best first: at most `num_beams`, or the number of samples.
    pub num_sequences: u32,
    /// Whether each token is reported when it is chosen. This needs a row without beams that
    /// requests one sequence.
    pub report_tokens: bool,
    /// Whether the output has an [`AttentionMap`] of the best sequence. Only question answering has
    /// one.
    pub explain: bool,
}

impl Default for Generation {
    fn default() -> Self {
        Self::GREEDY
    }
}

impl Generation {
    /// The most likely token at each step, up to the number of tokens in the checkpoint.
    pub const GREEDY: Self = Self {
        num_beams: 1,
        max_new_tokens: None,
        min_length: 0,
        length_penalty: 1.0,
        repetition_penalty: 1.0,
        sampling: None,
        num_sequences: 1,
        report_tokens: false,
        explain: false,
    };

    /// Returns whether the most likely token is chosen at each step and no other option applies.
    pub fn is_greedy(&self) -> bool {
        self.num_beams <= 1
            && self.num_sequences <= 1
            && self.min_length == 0
            && self.repetition_penalty == 1.0
            && self.sampling.is_none()
    }
}

/// Options of sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divisor of the logits, above 0.
    pub temperature: f32,
    /// Number of most likely tokens that can be chosen. 0 allows all.
    pub top_k: u32,
    /// Total probability of the most likely tokens that can be chosen. 1 allows all.
    pub top_p: f32,
    /// Seed of the random numbers. Equal seeds choose equal tokens in every batch composition.
    pub seed: u64,
}

/// Candidate answers to rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Token ids of each candidate, without start and stop token. No candidate is empty.
    pub candidates: Arc<[Vec<i64>]>,
    /// Number of candidates that are scored completely, chosen by their first token. The original
    /// repository calls it `k_test`.
    pub shortlist: u32,
    /// Number of candidates to return, best first.
    pub num_answers: u32,
    /// Whether the output has an [`AttentionMap`] of the best candidate.
    pub explain: bool,
}

/// Output of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowOutput {
    /// Generated sequences, best first. At least one.
    Generated(Vec<Sequence>),
    /// Ranked candidates, best first. At least one.
    Ranked(Vec<RankedCandidate>),
    /// Scores of a text and an image.
    Matched(MatchScores),
    /// Vector with a Euclidean norm of 1.
    Embedding(Vec<f32>),
    /// Output of a row that [`RowTask::explains`], with the map of its best answer. It is in a box
    /// because most outputs are none, and caches store many outputs.
    Explained(Box<(RowOutput, AttentionMap)>),
}

impl From<Sequence> for RowOutput {
    fn from(only: Sequence) -> Self {
        Self::Generated(vec![only])
    }
}

impl RowOutput {
    /// Returns the number of tokens of the best sequence, or 0 for other outputs.
    pub fn tokens(&self) -> usize {
        self.best().map_or(0, |best| best.token_ids.len())
    }

    /// Returns the best sequence, or `None` for other outputs.
    pub fn best(&self) -> Option<&Sequence> {
        match self {
            Self::Generated(sequences) => sequences.first(),
            Self::Explained(explained) => explained.0.best(),
            Self::Ranked(_) | Self::Matched(_) | Self::Embedding(_) => None,
        }
    }
}

/// A sequence that the decoder generated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequence {
    /// Tokens after the start token and the prompt. The last is the stop token, unless the sequence
    /// ended at its length limit.
    pub token_ids: Vec<i64>,
    /// Natural logarithm of the sequence's probability: the sum over its tokens and the stop token.
    /// For beams, this sum is divided by the length to the power of the length penalty.
    pub score: f32,
    /// Smallest lead of a chosen token over the second best, in log-probability. Near 0 the choice
    /// was close. For beams, the lead over the next best hypothesis' score, infinite without one.
    /// For samples 0.
    pub margin: f32,
}

/// A candidate answer with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedCandidate {
    /// Index into [`Ranking::candidates`].
    pub candidate: usize,
    /// Score of the original repository: the negative label-smoothed (0.1) sum of cross-entropies
    /// over the tokens and the stop token.
    pub score: f32,
    /// Softmax of the scores over the shortlist.
    pub probability: f32,
}

/// Scores of a text and an image from both heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchScores {
    /// Logits of "does not match" and "matches" from the image-text matching head.
    pub logits: [f32; 2],
    /// Cosine similarity of the two embeddings.
    pub cosine: f32,
}

impl MatchScores {
    /// Returns the probability that the text describes the image, from the matching head.
    pub fn probability(&self) -> f32 {
        let [no, yes] = self.logits;
        1.0 / (1.0 + (no - yes).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_with_any_other_option_is_not_greedy() {
        let plain = Generation::default();
        assert!(plain.is_greedy());
        assert!(
            Generation { max_new_tokens: Some(3), report_tokens: true, explain: true, ..plain }.is_greedy()
        );
        let sampling = Some(Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 });
        for other in [
            Generation { num_beams: 2, ..plain },
            Generation { num_sequences: 2, ..plain },
            Generation { min_length: 1, ..plain },
            Generation { repetition_penalty: 1.1, ..plain },
            Generation { sampling, ..plain },
        ] {
            assert!(!other.is_greedy(), "{other:?}");
        }
    }

    #[test]
    fn matching_probability_is_softmax_of_second_logit() {
        let scores = MatchScores { logits: [1.0, 3.0], cosine: 0.0 };
        let expected = 3f32.exp() / (1f32.exp() + 3f32.exp());
        assert!((scores.probability() - expected).abs() < 1e-6);
        assert_eq!(MatchScores { logits: [1000.0, -1000.0], cosine: 0.0 }.probability(), 0.0);
    }
}
