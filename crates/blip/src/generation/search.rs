//! Searching a batch: all rows that are not plainly greedy, with all of their beams and draws, one step after another.

use tch::TchError;

use crate::{
    batch::{rows::RowSink, task::RowOutput},
    decoder::AnswerDecoder,
    encode::encoded_batch::EncodedBatch,
    generation::{search_row::SearchRow, search_step::find_next, stopping_criteria::Stop},
    text::{
        encoder_states::DecoderMemory,
        hypotheses::{LaneLayout, MAX_LANES, passes},
    },
};

/// Searches `rows`, each reported as it ends. Returns the decoder's steps.
pub(crate) fn search(
    decoder: &AnswerDecoder,
    memory: &DecoderMemory,
    mut rows: Vec<SearchRow<'_>>,
    stop: Stop,
    batch: &EncodedBatch<'_>,
    sink: &mut dyn RowSink,
) -> Result<u32, TchError> {
    rows.sort_by_key(|row| (row.method(), row.lanes()));
    let mut steps = 0;
    for mut pass in passes(rows, MAX_LANES, SearchRow::lanes) {
        pass.retain(|row| !sink.is_cancelled(row.row));
        if !pass.is_empty() {
            steps += search_together(decoder, memory, pass, stop, batch, sink)?;
        }
    }
    Ok(steps)
}

fn search_together(
    decoder: &AnswerDecoder,
    memory: &DecoderMemory,
    mut rows: Vec<SearchRow<'_>>,
    stop: Stop,
    batch: &EncodedBatch<'_>,
    sink: &mut dyn RowSink,
) -> Result<u32, TchError> {
    let places: Vec<i64> = rows.iter().map(|row| row.place).collect();
    let memory = memory.select(&places)?;
    let mut state = decoder.start(&memory.states, memory.padding)?;
    state.layout = layout(&rows);
    let mut tokens = vec![stop.start_token; rows.iter().map(SearchRow::lanes).sum()];
    let mut steps = 0;
    // No row has more tokens than there are positions.
    for step in 0..stop.max_positions as usize {
        steps += 1;
        let logits = decoder.step(&tokens, &mut state)?;
        let found = find_next(&logits, &rows, step, stop.stop_token)?;
        let times = batch.stopwatch.times();
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
        // Closing gaps copies the memories too: worth it only when a good part of the rows is gone.
        let closing = left * 4 <= rows.len() * 3;
        let mut lanes = Vec::new();
        tokens.clear();
        let mut first_lane = 0;
        for row in &rows {
            if !closing || !row.done {
                for (parent, token) in row.next(step) {
                    lanes.push((first_lane + parent) as i64);
                    tokens.push(token);
                }
            }
            first_lane += row.lanes();
        }
        if !lanes.iter().copied().eq(0..first_lane as i64) {
            state.keep_lanes(&lanes)?;
        }
        if closing {
            let kept = (0..).zip(&rows).filter(|(_, row)| !row.done).map(|(memory, _)| memory);
            let kept: Vec<i64> = kept.collect();
            rows.retain(|row| !row.done);
            state.keep_memories(&kept, layout(&rows))?;
        }
    }
    Ok(steps)
}

fn layout(rows: &[SearchRow<'_>]) -> LaneLayout {
    let lanes: Vec<i64> = rows.iter().map(|row| row.lanes() as i64).collect();
    LaneLayout::new(&lanes)
}
