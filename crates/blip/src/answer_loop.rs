//! Greedy decoding of a batch: one step after another, each row reported when it ends.

use std::time::Duration;

use tch::{Device, TchError};

use crate::{
    answer_decoder::{AnswerDecoder, Choice, DecoderState, choose, read_choices},
    batch::{RowAnswer, RowError, RowSink},
    device_graphs::DecodeGraph,
    stopwatch::Stopwatch,
};

/// What makes the next token of every row.
#[derive(Debug)]
pub(crate) enum Stepper<'a> {
    /// Kernel by kernel; rows that ended are taken out.
    Plain { decoder: &'a AnswerDecoder, state: DecoderState, device: Device },
    /// A captured step; rows that ended run along until all have.
    Captured(&'a mut DecodeGraph),
}

impl Stepper<'_> {
    fn step(&mut self, tokens: &[i64], step: i64) -> Result<Vec<Choice>, TchError> {
        match self {
            Self::Plain { decoder, state, .. } => read_choices(&choose(&decoder.step(tokens, state)?)?),
            Self::Captured(graph) => graph.step(tokens, step),
        }
    }

    /// Keeps only the rows at `indices`, if rows can be taken out; says whether they were.
    fn retain(&mut self, indices: &[i64]) -> Result<bool, TchError> {
        match self {
            Self::Plain { state, device, .. } => state.retain(indices, *device).map(|()| true),
            Self::Captured(_) => Ok(false),
        }
    }
}

/// When an answer ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// The decoder's first input.
    pub(crate) start_token: i64,
    /// The token that ends an answer.
    pub(crate) stop_token: i64,
    /// Tokens that an answer may have.
    pub(crate) max_new_tokens: i64,
}

/// A row that is being decoded.
#[derive(Debug)]
pub(crate) struct LiveRow {
    /// The caller's index.
    row: usize,
    token_ids: Vec<i64>,
    score: f32,
    margin: f32,
    image_reused: bool,
    done: bool,
}

impl LiveRow {
    pub(crate) fn new(row: usize, image_reused: bool) -> Self {
        Self { row, token_ids: Vec::new(), score: 0.0, margin: f32::INFINITY, image_reused, done: false }
    }

    fn push(&mut self, choice: &Choice) {
        self.token_ids.push(choice.token);
        self.score += choice.log_probability;
        self.margin = self.margin.min(choice.margin);
    }

    fn answer(&mut self, [vision, text]: [Duration; 2], decode: Duration) -> RowAnswer {
        RowAnswer {
            token_ids: std::mem::take(&mut self.token_ids),
            score: self.score,
            margin: self.margin,
            vision,
            text,
            decode,
            image_reused: self.image_reused,
        }
    }
}

/// Decodes `live`, whose order is the stepper's row order. `stages` are the times of vision and text before this.
pub(crate) fn decode(
    mut stepper: Stepper<'_>,
    mut live: Vec<LiveRow>,
    stop: Stop,
    stages: [Duration; 2],
    stopwatch: &Stopwatch,
    rows: &mut dyn RowSink,
) -> Result<(), TchError> {
    let mut tokens = vec![stop.start_token; live.len()];
    let mut steps = 0;
    for step in 0..stop.max_new_tokens {
        steps += 1;
        let choices = stepper.step(&tokens, step)?;
        let decode = stopwatch.elapsed();
        tokens = choices.iter().map(|choice| choice.token).collect();
        for (live, choice) in live.iter_mut().zip(&choices).filter(|(live, _)| !live.done) {
            live.push(choice);
            let stopped = choice.token == stop.stop_token || step + 1 == stop.max_new_tokens;
            live.done = true;
            if !choice.log_probability.is_finite() {
                rows.finish(live.row, Err(RowError::NotFinite));
            } else if stopped {
                rows.finish(live.row, Ok(live.answer(stages, decode)));
            } else {
                live.done = rows.is_cancelled(live.row);
            }
        }
        let left = live.iter().filter(|live| !live.done).count();
        if left == 0 {
            break;
        }
        // Closing gaps copies every cache once: worth it only when a good part of the rows is gone.
        if left * 4 <= live.len() * 3 {
            let kept: Vec<usize> =
                (0..live.len()).filter(|&index| live.get(index).is_some_and(|row| !row.done)).collect();
            let indices: Vec<i64> = kept.iter().map(|&index| index as i64).collect();
            if stepper.retain(&indices)? {
                tokens = kept.iter().filter_map(|&index| tokens.get(index).copied()).collect();
                live.retain(|row| !row.done);
            }
        }
    }
    rows.decode_steps(steps);
    Ok(())
}
