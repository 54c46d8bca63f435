//! The reply to one item, built from what the engine computed.

use blip::{AttentionMap, RankedCandidate, RowOutput, Sequence};
use tokio::time::Instant;

use crate::{
    pipeline::timing::Timing,
    preprocess::{
        prepared::{ResponseKind, TokenIds},
        preparer::Preparer,
    },
};

/// The reply to one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The answer to a question.
    Answer(Answer),
    /// The caption of an image.
    Caption(Caption),
    /// Text that was generated since the last chunk. The caption follows.
    Chunk(CaptionChunk),
    /// How well a text describes an image.
    Match(MatchScores),
    /// The embedding of an image or a text.
    Embedding(Embedding),
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The answer in words.
    pub text: String,
    /// The natural logarithm of its probability.
    pub score: f32,
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// The smallest lead of a chosen token over the next best one, in natural log-probability.
    pub margin: f32,
    /// The next best answers, best first.
    pub alternatives: Vec<Alternative>,
    /// Of a ranked candidate: its share of the softmax over all candidates.
    pub probability: Option<f32>,
    /// Of a ranked candidate: its position among the candidates.
    pub candidate_index: Option<u32>,
    /// Where the model looked, if the request asks for it.
    pub attention: Option<AttentionMap>,
    /// What the answer cost.
    pub timing: Timing,
}

/// An answer or caption that is not the best.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alternative {
    /// Its words.
    pub text: String,
    /// As [`Answer::score`].
    pub score: f32,
    /// As [`Answer::token_ids`].
    pub token_ids: Vec<u32>,
    /// As [`Answer::probability`].
    pub probability: Option<f32>,
    /// As [`Answer::candidate_index`].
    pub candidate_index: Option<u32>,
}

/// A caption.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Caption {
    /// The caption, prompt included.
    pub text: String,
    /// As [`Answer::score`].
    pub score: f32,
    /// The generated tokens.
    pub token_ids: Vec<u32>,
    /// As [`Answer::margin`].
    pub margin: f32,
    /// The next best captions, best first.
    pub alternatives: Vec<Alternative>,
    /// What the caption cost.
    pub timing: Timing,
}

/// A chunk of a caption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptionChunk {
    /// The text that the token adds. Empty if it adds none yet.
    pub text: String,
    /// The token.
    pub token_id: u32,
}

/// Scores of a text and an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatchScores {
    /// The probability that the text describes the image, by the image-text matching head.
    pub probability: f32,
    /// The cosine of the embeddings of image and text.
    pub cosine: f32,
    /// The logits of the matching head: "does not describe", "describes".
    pub logits: Vec<f32>,
    /// What the scores cost.
    pub timing: Timing,
}

/// An embedding of length 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    /// Its values.
    pub values: Vec<f32>,
    /// What the embedding cost.
    pub timing: Timing,
}

/// A reply with the time at which an engine or the cache returned it. A chunk has no time.
pub type TimedReply = (Reply, Option<Instant>);

impl Reply {
    /// Builds the reply to an item of kind `kind` from the engine's output.
    #[must_use]
    pub fn new(kind: &ResponseKind, output: RowOutput, timing: Timing, preparer: &Preparer) -> Self {
        match output {
            RowOutput::Generated(sequences) => {
                let prompt = match kind {
                    ResponseKind::Prompt(prompt) => Some(prompt),
                    _ => None,
                };
                generated(sequences, prompt, timing, preparer)
            }
            RowOutput::Ranked(ranked) => Self::Answer(best_candidate(&ranked, kind, timing)),
            RowOutput::Matched(scores) => Self::Match(MatchScores {
                probability: scores.probability(),
                cosine: scores.cosine,
                logits: scores.logits.to_vec(),
                timing,
            }),
            RowOutput::Embedding(values) => Self::Embedding(Embedding { values, timing }),
            RowOutput::Explained(explained) => {
                let (output, map) = *explained;
                match Self::new(kind, output, timing, preparer) {
                    Self::Answer(answer) => Self::Answer(Answer { attention: Some(map), ..answer }),
                    other => other,
                }
            }
        }
    }

    /// Returns whether the item has no further replies.
    #[must_use]
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Chunk(_))
    }

    /// Returns the timing and the number of generated tokens, or `None` for a chunk.
    #[must_use]
    pub fn cost(&self) -> Option<(&Timing, usize)> {
        match self {
            Self::Answer(answer) => Some((&answer.timing, answer.token_ids.len())),
            Self::Caption(caption) => Some((&caption.timing, caption.token_ids.len())),
            Self::Match(scores) => Some((&scores.timing, 0)),
            Self::Embedding(embedding) => Some((&embedding.timing, 0)),
            Self::Chunk(_) => None,
        }
    }

    /// Returns the text, or an empty string if the reply has none.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Answer(answer) => &answer.text,
            Self::Caption(caption) => &caption.text,
            Self::Chunk(chunk) => &chunk.text,
            Self::Match(_) | Self::Embedding(_) => "",
        }
    }
}

/// Returns the best of the generated sequences with the others as its alternatives: a caption if
/// there is a `prompt`, and an answer otherwise.
fn generated(
    sequences: Vec<Sequence>,
    prompt: Option<&TokenIds>,
    timing: Timing,
    preparer: &Preparer,
) -> Reply {
    let text = |token_ids: &[i64]| match prompt {
        Some(prompt) => preparer.caption(&prompt.0, token_ids),
        None => preparer.text(token_ids),
    };
    let mut sequences = sequences.into_iter();
    let (best_text, Sequence { token_ids, score, margin }) = match sequences.next() {
        Some(best) => (text(&best.token_ids), best),
        None => Default::default(),
    };
    let token_ids = unsigned(&token_ids);
    // The margin is infinite where there was no other token.
    let margin = if margin.is_finite() { margin } else { 0.0 };
    let alternatives = sequences.map(|sequence| Alternative {
        text: text(&sequence.token_ids),
        score: sequence.score,
        token_ids: unsigned(&sequence.token_ids),
        ..Alternative::default()
    });
    let alternatives = alternatives.collect();
    let text = best_text;
    match prompt {
        Some(_) => Reply::Caption(Caption { text, score, token_ids, margin, alternatives, timing }),
        None => {
            let answer = Answer { text, score, token_ids, margin, alternatives, timing, ..Answer::default() };
            Reply::Answer(answer)
        }
    }
}

/// Returns the best of ranked candidates as an answer, with the others as its alternatives.
fn best_candidate(ranked: &[RankedCandidate], kind: &ResponseKind, timing: Timing) -> Answer {
    let ResponseKind::Choice { candidates, num_answers } = kind else {
        return Answer { timing, ..Answer::default() };
    };
    let alternative = |candidate: &RankedCandidate| Alternative {
        text: candidates.texts.get(candidate.candidate).cloned().unwrap_or_default(),
        score: candidate.score,
        token_ids: candidates.ids.get(candidate.candidate).map(|ids| unsigned(ids)).unwrap_or_default(),
        probability: Some(candidate.probability),
        candidate_index: u32::try_from(candidate.candidate).ok(),
    };
    let mut ranked = ranked.iter().map(alternative);
    let best = ranked.next().unwrap_or_default();
    let mut alternatives: Vec<_> = ranked.collect();
    let margin = alternatives.first().map_or(0.0, |second| best.score - second.score);
    alternatives.truncate((*num_answers as usize).saturating_sub(1));
    Answer {
        text: best.text,
        score: best.score,
        token_ids: best.token_ids,
        margin,
        alternatives,
        probability: best.probability,
        candidate_index: best.candidate_index,
        attention: None,
        timing,
    }
}

fn unsigned(ids: &[i64]) -> Vec<u32> {
    ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect()
}
