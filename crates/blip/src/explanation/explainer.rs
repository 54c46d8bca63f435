//! Computes the attention maps of the answers of a batch.
//!
//! The decoder attends to the states of the question, and the question attends to the image. Their
//! product is the attention of the answer to the image. See `docs/decisions/attention-map.md`.

use std::iter;

use tch::{Kind, TchError, Tensor};

use crate::{
    batch::{
        attention_map::AttentionMap,
        rows::{RowAnswer, RowError, RowInput, RowSink},
        task::{RowOutput, RowTask},
    },
    decoder::TextDecoder,
    device::transfer::to_host,
    encode::encoded_batch::EncodedBatch,
    generation::stopping_criteria::StoppingCriteria,
    text::encoder::TextEncoder,
};

/// The decoder steps that take as long as the attention map of an answer, about.
///
/// Most of its time is a pass of the text encoder with the keys and values of an image, which no
/// cache has. The map of a released model takes as many multiplications as 75 steps, but in larger
/// products.
pub const ATTENTION_MAP_STEPS: u32 = 40;

/// The networks of a question answering model, as maps are computed from them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Explainer<'a> {
    pub(crate) questions: &'a TextEncoder,
    pub(crate) decoder: &'a TextDecoder,
    pub(crate) stopping: StoppingCriteria,
    /// Patches along one side of an image.
    pub(crate) grid: i64,
}

/// An answer of the batch, with the row and the position of its image in computing order.
struct HeldRow<'a> {
    row: usize,
    input: &'a RowInput<'a>,
    image: usize,
    answer: RowAnswer,
}

impl Explainer<'_> {
    /// Reports the answers `held` with their maps. Cancelled rows are skipped.
    ///
    /// The batch took `steps` decoder steps. They are reported with [`ATTENTION_MAP_STEPS`] for
    /// each map, so that the scheduler does not mistake the maps for slow questions.
    ///
    /// Rows are computed one by one, so that a map does not depend on the batch composition and
    /// needs little memory. Rows about the same image share its keys and values, which are most of
    /// the work.
    pub(crate) fn explain(
        self,
        batch: &EncodedBatch<'_>,
        (held, steps): (Vec<(usize, RowAnswer)>, u32),
        sink: &mut dyn RowSink,
    ) -> Result<(), TchError> {
        let mut rows: Vec<HeldRow<'_>> = held
            .into_iter()
            .filter_map(|(row, answer)| {
                let input = batch.row(row)?;
                let image = batch.layout.images.iter().position(|&image| Some(image) == input.image)?;
                Some(HeldRow { row, input, image, answer })
            })
            .collect();
        rows.sort_by_key(|row| row.image);
        let mut projected: Option<(usize, Vec<Tensor>)> = None;
        let mut total_steps = steps;
        for HeldRow { row, input, image, answer } in rows {
            if sink.is_cancelled(row) {
                continue;
            }
            let key_values = match projected.take() {
                Some((position, key_values)) if position == image => key_values,
                _ => self.questions.project(&batch.features.image(image)?)?,
            };
            let map = self.map(&key_values, input.token_ids, best_answer(input.task, &answer.output))?;
            projected = Some((image, key_values));
            total_steps = total_steps.saturating_add(ATTENTION_MAP_STEPS);
            let explained = map.map(|map| RowAnswer {
                output: RowOutput::Explained(Box::new((answer.output, map))),
                decode: batch.timer.times().decode,
                ..answer
            });
            sink.finish(row, explained.ok_or(RowError::NotFinite));
        }
        sink.decode_steps(total_steps);
        Ok(())
    }

    /// Returns the map of the tokens `answer` to a question about an image with these keys and
    /// values, or `None` if its weights are not finite.
    fn map(
        self,
        key_values: &[Tensor],
        question: &[i64],
        answer: &[i64],
    ) -> Result<Option<AttentionMap>, TchError> {
        let question = self.questions.attend(question, key_values)?;
        let tokens = tokens_read(answer, self.stopping);
        let of_steps = self.decoder.attention_weights(&tokens, &question.states)?;
        let of_answer = of_steps.f_mean_dim(0, true, Kind::Float)?;
        let of_image = of_answer.f_matmul(&question.weights)?;
        Ok(AttentionMap::of_tokens(self.grid, &to_host(&of_image)?))
    }
}

/// Returns the tokens of the best answer. Candidates have no stop token.
fn best_answer<'a>(task: &'a RowTask, output: &'a RowOutput) -> &'a [i64] {
    match (task, output) {
        (RowTask::Rank(ranking), RowOutput::Ranked(ranked)) => {
            ranked.first().and_then(|best| ranking.candidates.get(best.candidate)).map_or(&[], Vec::as_slice)
        }
        _ => output.best().map_or(&[], |best| &best.token_ids),
    }
}

/// Returns the tokens that the decoder reads in the steps that choose the tokens of `answer`.
///
/// A step reads a token and chooses the next one, so these are the start token and all tokens but
/// the last. The stop token is no part of the answer's text. The step that chooses it counts only
/// if the answer has no other token.
fn tokens_read(answer: &[i64], stopping: StoppingCriteria) -> Vec<i64> {
    let text = answer.strip_suffix(&[stopping.stop_token]).unwrap_or(answer);
    let read = text.split_last().map_or(text, |(_, before)| before);
    iter::once(stopping.start_token).chain(read.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_the_tokens_before_those_of_the_text() {
        let stopping =
            StoppingCriteria { start_token: 1, stop_token: 2, max_new_tokens: 9, max_positions: 9 };
        let read = |answer: &[i64]| tokens_read(answer, stopping);
        assert_eq!(read(&[7, 8, 9, 2]), [1, 7, 8]);
        assert_eq!(read(&[7, 8, 9]), [1, 7, 8], "ended at the length limit, or a candidate");
        assert_eq!(read(&[7, 2]), [1]);
        assert_eq!(read(&[2]), [1], "an empty answer");
        assert_eq!(read(&[]), [1]);
    }
}
