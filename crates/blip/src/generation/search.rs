//! Decodes rows with beam search, sampling or logits processors. All hypotheses of a batch share
//! each step.

use tch::TchError;

use crate::{
    batch::{rows::RowSink, task::RowOutput},
    generation::{decode_context::DecodeContext, search_row::SearchRow, search_step::find_next},
    text::hypotheses::{HypothesisLayout, MAX_HYPOTHESES, passes},
};

/// Searches `rows` and reports each when it ends. Returns the number of decoder steps.
pub(crate) fn search(
    context: DecodeContext<'_>,
    mut rows: Vec<SearchRow<'_>>,
    sink: &mut dyn RowSink,
) -> Result<u32, TchError> {
    rows.sort_by_key(|row| (row.method(), row.hypotheses()));
    let mut steps = 0;
    for mut pass in passes(rows, MAX_HYPOTHESES, SearchRow::hypotheses) {
        pass.retain(|row| !sink.is_cancelled(row.row));
        if !pass.is_empty() {
            steps += search_together(context, pass, sink)?;
        }
    }
    Ok(steps)
}

/// Searches `rows`, which have at most [`MAX_HYPOTHESES`] hypotheses. Returns the number of decoder
/// steps.
fn search_together(
    context: DecodeContext<'_>,
    mut rows: Vec<SearchRow<'_>>,
    sink: &mut dyn RowSink,
) -> Result<u32, TchError> {
    let DecodeContext { decoder, encoder_states, stopping, batch } = context;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let selected = encoder_states.select(&positions)?;
    let mut state = decoder.start(&selected.states, selected.padding)?;
    state.layout = layout(&rows);
    let mut tokens = vec![stopping.start_token; rows.iter().map(SearchRow::hypotheses).sum()];
    let mut steps = 0;
    // No row has more tokens than the decoder has positions.
    for step in 0..stopping.max_positions as usize {
        steps += 1;
        let logits = decoder.step(&tokens, &mut state)?;
        let found = find_next(&logits, &rows, step, stopping.stop_token)?;
        let times = batch.timer.times();
        for (row, found) in rows.iter_mut().zip(&found).filter(|(row, _)| !row.done) {
            let outcome = row.advance(step, found, sink);
            row.done = outcome.is_some() || sink.is_cancelled(row.row);
            if let Some(outcome) = outcome {
                let answer = |found| batch.answer(row.row, RowOutput::Generated(found), times);
                sink.finish(row.row, outcome.map(answer));
            }
        }
        let left = rows.iter().filter(|row| !row.done).count();
        if left == 0 {
            break;
        }
        // Removing completed rows copies the encoder states, too. It pays off only when a quarter
        // of the rows is complete.
        let closing = left * 4 <= rows.len() * 3;
        let mut hypotheses = Vec::new();
        tokens.clear();
        let mut first_hypothesis = 0;
        for row in &rows {
            if !closing || !row.done {
                for (parent, token) in row.next(step) {
                    hypotheses.push((first_hypothesis + parent) as i64);
                    tokens.push(token);
                }
            }
            first_hypothesis += row.hypotheses();
        }
        if !hypotheses.iter().copied().eq(0..first_hypothesis as i64) {
            state.select_hypotheses(&hypotheses)?;
        }
        if closing {
            let remaining = (0..).zip(&rows).filter(|(_, row)| !row.done).map(|(encoder_row, _)| encoder_row);
            let remaining: Vec<i64> = remaining.collect();
            rows.retain(|row| !row.done);
            state.select_encoder_rows(&remaining, layout(&rows))?;
        }
    }
    Ok(steps)
}

/// Returns the layout of the hypotheses of `rows`.
fn layout(rows: &[SearchRow<'_>]) -> HypothesisLayout {
    let hypotheses: Vec<i64> = rows.iter().map(|row| row.hypotheses() as i64).collect();
    HypothesisLayout::new(&hypotheses)
}
