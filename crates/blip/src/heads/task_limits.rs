//! Limits of the options of a row.
//!
//! They protect a batch from values that no model supports. The server enforces narrower limits for
//! its clients.

use std::{fmt::Display, ops::RangeInclusive};

use crate::{
    batch::task::{Generation, Ranking, RowTask},
    checkpoint::config::text::TextConfig,
    text::hypotheses::MAX_HYPOTHESES,
};

impl RowTask {
    /// Checks the options for a model of this shape. An error is the text of a
    /// `ModelError::BadBatch`.
    pub(crate) fn check(&self, text: &TextConfig) -> Result<(), String> {
        match self {
            Self::Generate(options) => options.check(),
            Self::Rank(ranking) => ranking.check(text),
            Self::Match | Self::EmbedText | Self::EmbedImage => Ok(()),
        }
    }
}

impl Generation {
    fn check(&self) -> Result<(), String> {
        // Factors in this range keep products and quotients of f32 finite.
        const SCALE: RangeInclusive<f32> = 1e-6..=1e6;
        within("num_beams", self.num_beams, 0..=MAX_HYPOTHESES as u32)?;
        within("num_sequences", self.num_sequences, 0..=MAX_HYPOTHESES as u32)?;
        within("length_penalty", self.length_penalty, -100.0..=100.0)?;
        within("repetition_penalty", self.repetition_penalty, SCALE)?;
        let Some(sampling) = self.sampling else { return Ok(()) };
        within("temperature", sampling.temperature, SCALE)?;
        within("top_p", sampling.top_p, 0.0..=1.0)
    }
}

impl Ranking {
    fn check(&self, text: &TextConfig) -> Result<(), String> {
        if self.candidates.is_empty() {
            return Err("invalid number of candidates: 0, expected at least 1".to_owned());
        }
        // The start token takes the first position.
        let limit = text.max_position_embeddings - 1;
        let lengths = self.candidates.iter().map(|ids| ids.len() as i64);
        match lengths.enumerate().find(|(_, length)| !(1..=limit).contains(length)) {
            Some((index, length)) => {
                Err(format!("invalid length of candidate {index}: {length} tokens, expected 1 to {limit}"))
            }
            None => Ok(()),
        }
    }
}

/// Checks that `value` is in `range`. The error names `name`, the value and the range.
fn within<T: PartialOrd + Display>(name: &str, value: T, range: RangeInclusive<T>) -> Result<(), String> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(format!("{name} is {value}, expected {} to {}", range.start(), range.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::task::Sampling;

    fn error_text(task: RowTask) -> String {
        let text = TextConfig { max_position_embeddings: 4, ..TextConfig::default() };
        task.check(&text).err().unwrap_or_default()
    }

    #[test]
    fn generation_options_out_of_range_are_rejected_by_name() {
        let plain = Generation::GREEDY;
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 };
        let sampled = |sampling| Generation { sampling: Some(sampling), ..plain };
        for (options, expected) in [
            (plain, ""),
            (Generation { num_beams: 0, num_sequences: 0, ..plain }, ""),
            (sampled(Sampling { top_k: u32::MAX, ..sampling }), ""),
            (Generation { num_beams: 513, ..plain }, "num_beams is 513, expected 0 to 512"),
            (Generation { num_sequences: 513, ..plain }, "num_sequences is 513, expected 0 to 512"),
            (Generation { length_penalty: f32::NAN, ..plain }, "length_penalty is NaN, expected -100 to 100"),
            (
                Generation { repetition_penalty: 0.0, ..plain },
                "repetition_penalty is 0, expected 0.000001 to 1000000",
            ),
            (
                sampled(Sampling { temperature: -1.0, ..sampling }),
                "temperature is -1, expected 0.000001 to 1000000",
            ),
            (sampled(Sampling { top_p: 1.5, ..sampling }), "top_p is 1.5, expected 0 to 1"),
        ] {
            assert_eq!(error_text(RowTask::Generate(options)), expected);
        }
    }

    #[test]
    fn candidates_beyond_the_position_limit_are_rejected() {
        let ranking = |candidates: &[Vec<i64>]| {
            error_text(RowTask::Rank(Ranking {
                candidates: candidates.into(),
                shortlist: 1,
                num_answers: 1,
                explain: false,
            }))
        };
        assert_eq!(ranking(&[]), "invalid number of candidates: 0, expected at least 1");
        assert_eq!(ranking(&[vec![5], vec![]]), "invalid length of candidate 1: 0 tokens, expected 1 to 3");
        assert_eq!(ranking(&[vec![5; 4]]), "invalid length of candidate 0: 4 tokens, expected 1 to 3");
        assert_eq!(ranking(&[vec![5; 3]]), "");
    }
}
