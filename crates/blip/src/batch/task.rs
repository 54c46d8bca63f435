//! What can be wanted of a row of a batch, and what comes out of it.

use std::sync::Arc;

/// What a row wants.
#[derive(Debug, Clone, PartialEq)]
pub enum RowTask {
    /// An answer to a question, or a caption that goes on from a prompt.
    Generate(Generation),
    /// Given answers to a question, the best first.
    Rank(Ranking),
    /// Whether a text describes an image.
    Match,
    /// A text as a vector, to be compared with those of images.
    EmbedText,
    /// An image as a vector; the row has no text.
    EmbedImage,
}

impl Default for RowTask {
    /// One answer, greedily.
    fn default() -> Self {
        Self::GREEDY
    }
}

impl RowTask {
    /// One answer, greedily.
    pub const GREEDY: Self = Self::Generate(Generation::GREEDY);

    /// Whether the row's tokens are to be told as they are written.
    pub fn reports_tokens(&self) -> bool {
        matches!(self, Self::Generate(generation) if generation.report_tokens)
    }

    /// What it is called in messages.
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

/// How tokens are chosen, in the meaning that `transformers` gives to each option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generation {
    /// Hypotheses that are followed at the same time; 1 is greedy. Draws follow none and take no heed of this.
    pub num_beams: u32,
    /// Tokens that may be written behind the prompt, the stop token included; the checkpoint's own number without.
    pub max_new_tokens: Option<u32>,
    /// Tokens, start token and prompt included, before which the stop token is not chosen; 0 sets no such bound.
    pub min_length: u32,
    /// Beams: a hypothesis' score is divided by its length to the power of this.
    pub length_penalty: f32,
    /// Above 1, tokens that are there already are less likely to come again; 1 is off.
    pub repetition_penalty: f32,
    /// Draw tokens instead of taking the likeliest.
    pub sampling: Option<Sampling>,
    /// Sequences wanted, the best first: at most `num_beams`, or as many draws.
    pub num_sequences: u32,
    /// Whether each token is reported as it is chosen; only of a row without beams that wants one sequence.
    pub report_tokens: bool,
}

impl Default for Generation {
    fn default() -> Self {
        Self::GREEDY
    }
}

impl Generation {
    /// The likeliest token at each step, up to the checkpoint's own number of them.
    pub const GREEDY: Self = Self {
        num_beams: 1,
        max_new_tokens: None,
        min_length: 0,
        length_penalty: 1.0,
        repetition_penalty: 1.0,
        sampling: None,
        num_sequences: 1,
        report_tokens: false,
    };

    /// Whether the likeliest token is taken at each step and nothing else is to be heeded.
    pub fn is_greedy(&self) -> bool {
        self.num_beams <= 1
            && self.num_sequences <= 1
            && self.min_length == 0
            && self.repetition_penalty == 1.0
            && self.sampling.is_none()
    }
}

/// How a token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; above 0.
    pub temperature: f32,
    /// Only so many of the likeliest tokens are drawn from; 0 is all.
    pub top_k: u32,
    /// Only the likeliest tokens are drawn from whose probabilities together reach this; 1 is all.
    pub top_p: f32,
    /// The same seed draws the same tokens, whatever else is in the batch.
    pub seed: u64,
}

/// Which answers are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Token ids of each candidate, without start and stop token; none is empty.
    pub candidates: Arc<[Vec<i64>]>,
    /// Candidates that are compared in full, chosen by their first token; `k_test` of the original.
    pub shortlist: u32,
    /// Candidates wanted, the best first.
    pub num_answers: u32,
}

/// What came out of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowOutput {
    /// What was written, the best first; never empty.
    Generated(Vec<Sequence>),
    /// The best candidates, the best first; never empty.
    Ranked(Vec<RankedCandidate>),
    /// How well text and image fit.
    Matched(MatchScores),
    /// A vector of length 1.
    Embedding(Vec<f32>),
}

impl From<Sequence> for RowOutput {
    fn from(only: Sequence) -> Self {
        Self::Generated(vec![only])
    }
}

impl RowOutput {
    /// Tokens of the best of what was written.
    pub fn tokens(&self) -> usize {
        self.best().map_or(0, |best| best.token_ids.len())
    }

    /// The best of what was written.
    pub fn best(&self) -> Option<&Sequence> {
        match self {
            Self::Generated(sequences) => sequences.first(),
            _ => None,
        }
    }
}

/// What the decoder wrote.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequence {
    /// The tokens behind the start token and the prompt; the stop token is the last, unless it was cut at its limit.
    pub token_ids: Vec<i64>,
    /// Natural logarithm of its probability: the sum over its tokens, the stop token included. Of beams, that sum divided
    /// by the length to the power of the length penalty.
    pub score: f32,
    /// The smallest lead of a chosen token over the next best, in log-probability: near 0, it was a close call. Of beams,
    /// the lead over the next best hypothesis' score, infinite without one; of drawn tokens, 0.
    pub margin: f32,
}

/// A candidate answer with its place among the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedCandidate {
    /// Index into [`Ranking::candidates`].
    pub candidate: usize,
    /// The original's measure: minus the label-smoothed (0.1) sum of cross-entropies over its tokens and the stop token.
    pub score: f32,
    /// Its part of the shortlist: the softmax of the scores.
    pub probability: f32,
}

/// How well a text describes an image, by both heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchScores {
    /// The image-text matching head: logits of "does not match" and "matches".
    pub logits: [f32; 2],
    /// Cosine of the two embeddings.
    pub cosine: f32,
}

impl MatchScores {
    /// Probability that the text describes the image, by the matching head.
    pub fn probability(&self) -> f32 {
        let [no, yes] = self.logits;
        1.0 / (1.0 + (no - yes).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_is_what_asks_for_nothing_else() {
        let plain = Generation::default();
        assert!(plain.is_greedy());
        assert!(Generation { max_new_tokens: Some(3), report_tokens: true, ..plain }.is_greedy());
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
    fn the_matching_probability_is_the_softmax_of_the_second_logit() {
        let scores = MatchScores { logits: [1.0, 3.0], cosine: 0.0 };
        let expected = 3f32.exp() / (1f32.exp() + 3f32.exp());
        assert!((scores.probability() - expected).abs() < 1e-6);
        assert_eq!(MatchScores { logits: [1000.0, -1000.0], cosine: 0.0 }.probability(), 0.0);
    }
}
