//! Sorts the rows of a batch by the way in which they are decoded.

use tch::TchError;

use crate::{
    batch::{
        rows::{RowError, RowSink},
        task::RowTask,
    },
    encode::encoded_batch::EncodedBatch,
    generation::{
        decode_context::DecodeContext, greedy::ActiveRow, search::search, search_row::SearchRow,
        stopping_criteria::StoppingCriteria,
    },
    ranking::{RankRow, rank},
};

/// The rows of a batch by task. A position counts rows in computing order.
#[derive(Debug, Default)]
pub(crate) struct DecodingPlan<'a> {
    /// Rows that take the most likely token of each step.
    pub(crate) greedy: Vec<ActiveRow<'a>>,
    /// Positions of the greedy rows.
    pub(crate) greedy_positions: Vec<i64>,
    searched: Vec<SearchRow<'a>>,
    ranked: Vec<RankRow<'a>>,
}

impl<'a> DecodingPlan<'a> {
    /// Plans the rows of `batch`. `prompt_of` returns the prompt after the start token of a row's
    /// token ids.
    pub(crate) fn new(
        batch: &EncodedBatch<'a>,
        prompt_of: impl Fn(&'a [i64]) -> &'a [i64],
        stopping: StoppingCriteria,
        rows: &mut dyn RowSink,
    ) -> Self {
        let mut plan = Self::default();
        for (position, (row, input)) in (0..).zip(batch.rows_in_order()) {
            let prompt = prompt_of(input.token_ids);
            match input.task {
                RowTask::Generate(options) if options.is_greedy() => {
                    let limit = stopping.limit(options.max_new_tokens, prompt.len());
                    let reused = batch.image_reused(row);
                    let active = ActiveRow::new(row, prompt, limit, options.report_tokens, reused);
                    plan.greedy.push(active);
                    plan.greedy_positions.push(position);
                }
                RowTask::Generate(options) => {
                    plan.searched.push(SearchRow::new((row, position), prompt, options, stopping));
                }
                RowTask::Rank(ranking) => {
                    plan.ranked.push(RankRow { row, position, ranking });
                }
                other => rows.finish(row, Err(RowError::Unsupported { task: other.name() })),
            }
        }
        plan
    }

    /// Returns whether there are rows for [`Self::decode_others`].
    pub(crate) fn has_others(&self) -> bool {
        !self.searched.is_empty() || !self.ranked.is_empty()
    }

    /// Searches and ranks the rows that are not greedy. Returns the number of decoder steps.
    pub(crate) fn decode_others(
        self,
        context: DecodeContext<'_>,
        rows: &mut dyn RowSink,
    ) -> Result<u32, TchError> {
        Ok(search(context, self.searched, rows)? + rank(context, &self.ranked, rows)?)
    }
}
