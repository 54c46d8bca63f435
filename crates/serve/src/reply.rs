//! What comes back for one (image, text) pair, as messages have it.

use blip::{RankedCandidate, RowOutput, Sequence};
use tokio::time::Instant;

use crate::{
    candidates::Candidates,
    intake::{Intake, TokenIds},
    proto::{Alternative, Answer, Caption, CaptionPiece, Embedding, MatchScores, Timing},
};

/// What a pair is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a question.
    Answer(Answer),
    /// Of an image.
    Caption(Caption),
    /// What was written since the last piece; the caption follows.
    Piece(CaptionPiece),
    /// How well text and image fit.
    Match(MatchScores),
    /// The image or the text as a vector.
    Embedding(Embedding),
}

/// A reply with the time at which an engine had it; of a piece, none.
pub type TimedReply = (Reply, Option<Instant>);

/// What a pair was about, as far as its reply needs it.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A question that is answered freely.
    Question,
    /// A question with answers to choose from.
    Choice {
        /// The answers.
        candidates: Candidates,
        /// How many of them are told, the best included.
        num_answers: u32,
    },
    /// A caption with what it begins with.
    Prompt(TokenIds),
    /// Text and image compared.
    Text,
    /// A vector.
    Vector,
}

impl Reply {
    /// A reply about `subject` from what the engine gave, with what it cost.
    #[must_use]
    pub fn new(subject: &Subject, output: RowOutput, timing: Timing, intake: &Intake) -> Self {
        let timing = Some(timing);
        match output {
            RowOutput::Generated(sequences) => {
                let words = |sequence: Sequence| match subject {
                    Subject::Prompt(prompt) => (intake.caption(&prompt.0, &sequence.token_ids), sequence),
                    _ => (intake.text(&sequence.token_ids), sequence),
                };
                let mut written = sequences.into_iter().map(words);
                let (text, Sequence { token_ids, score, margin }) = written.next().unwrap_or_default();
                let token_ids = unsigned(&token_ids);
                // Where there was no other to lead over.
                let margin = if margin.is_finite() { margin } else { 0.0 };
                let alternatives = written.map(|(text, sequence)| Alternative {
                    text,
                    score: sequence.score,
                    token_ids: unsigned(&sequence.token_ids),
                    ..Alternative::default()
                });
                let alternatives = alternatives.collect();
                match subject {
                    Subject::Prompt(_) => {
                        Self::Caption(Caption { text, score, token_ids, timing, margin, alternatives })
                    }
                    _ => Self::Answer(Answer {
                        text,
                        score,
                        token_ids,
                        timing,
                        margin,
                        alternatives,
                        ..Answer::default()
                    }),
                }
            }
            RowOutput::Ranked(ranked) => Self::Answer(best_candidate(&ranked, subject, timing)),
            RowOutput::Matched(scores) => Self::Match(MatchScores {
                probability: scores.probability(),
                cosine: scores.cosine,
                logits: scores.logits.to_vec(),
                timing,
            }),
            RowOutput::Embedding(values) => Self::Embedding(Embedding { values, timing }),
        }
    }

    /// Whether nothing more comes for the pair.
    #[must_use]
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Piece(_))
    }

    /// The answer to a question.
    #[must_use]
    pub fn into_answer(self) -> Option<Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    /// What it cost, and how many tokens were written; nothing of a piece.
    #[must_use]
    pub fn cost(&self) -> Option<(&Timing, usize)> {
        let (timing, tokens) = match self {
            Self::Answer(answer) => (&answer.timing, answer.token_ids.len()),
            Self::Caption(caption) => (&caption.timing, caption.token_ids.len()),
            Self::Match(scores) => (&scores.timing, 0),
            Self::Embedding(embedding) => (&embedding.timing, 0),
            Self::Piece(_) => return None,
        };
        timing.as_ref().map(|timing| (timing, tokens))
    }

    /// Its words, if it has any.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Answer(answer) => &answer.text,
            Self::Caption(caption) => &caption.text,
            Self::Piece(piece) => &piece.text,
            Self::Match(_) | Self::Embedding(_) => "",
        }
    }
}

/// The best of ranked candidates as an answer, the others as its alternatives.
fn best_candidate(ranked: &[RankedCandidate], subject: &Subject, timing: Option<Timing>) -> Answer {
    let Subject::Choice { candidates, num_answers } = subject else {
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
        timing,
        margin,
        alternatives,
        probability: best.probability,
        candidate_index: best.candidate_index,
    }
}

fn unsigned(ids: &[i64]) -> Vec<u32> {
    ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect()
}
