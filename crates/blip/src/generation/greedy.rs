//! Greedy decoding of a batch: one step after another, each row reported when it ends.

use tch::TchError;

use crate::{
    batch::{
        rows::{RowAnswer, RowError, RowSink},
        task::{RowOutput, Sequence},
    },
    cpu::text_decoder::{AnswerState, SliceDecoder},
    cuda_graphs::DecodeGraph,
    decoder::{
        AnswerDecoder,
        state::DecoderState,
        token_choice::{Choice, choose, read_choices},
    },
    device::stage_timer::{StageTimes, Stopwatch},
    generation::stopping_criteria::Stop,
};

/// What makes the next token of every row.
#[derive(Debug)]
pub(crate) enum Stepper<'a> {
    /// Kernel by kernel; rows that ended are taken out.
    Plain { decoder: &'a AnswerDecoder, state: DecoderState },
    /// A captured step; rows that ended run along until all have.
    Captured(&'a mut DecodeGraph),
    /// On slices; rows that ended are taken out.
    Slices { decoder: &'a SliceDecoder, state: AnswerState },
}

impl Stepper<'_> {
    fn step(&mut self, tokens: &[i64], step: i64) -> Result<Vec<Choice>, TchError> {
        match self {
            Self::Plain { decoder, state } => read_choices(&choose(&decoder.step(tokens, state)?)?),
            Self::Captured(graph) => graph.step(tokens, step),
            Self::Slices { decoder, state } => Ok(decoder.step(tokens, state)),
        }
    }

    /// Keeps only the rows at `indices`, if rows can be taken out; says whether they were.
    fn retain(&mut self, indices: &[i64]) -> Result<bool, TchError> {
        match self {
            Self::Plain { state, .. } => state.retain(indices).map(|()| true),
            Self::Captured(_) => Ok(false),
            Self::Slices { state, .. } => {
                state.retain(indices);
                Ok(true)
            }
        }
    }
}

/// A row that is being decoded.
#[derive(Debug)]
pub(crate) struct LiveRow<'a> {
    /// The caller's index.
    row: usize,
    /// What it has to begin with, behind the start token: fed one token a step, so that rows with prompts of any lengths
    /// are at the same position at each step, and none needs a mask.
    prompt: &'a [i64],
    /// Tokens that it may write.
    limit: i64,
    report_tokens: bool,
    token_ids: Vec<i64>,
    score: f32,
    margin: f32,
    image_reused: bool,
    done: bool,
}

impl<'a> LiveRow<'a> {
    pub(crate) fn new(
        row: usize,
        prompt: &'a [i64],
        limit: i64,
        report_tokens: bool,
        image_reused: bool,
    ) -> Self {
        Self {
            row,
            prompt,
            limit,
            report_tokens,
            token_ids: Vec::new(),
            score: 0.0,
            margin: f32::INFINITY,
            image_reused,
            done: false,
        }
    }

    /// The decoder's steps that it takes at most.
    pub(crate) fn max_steps(&self) -> i64 {
        self.prompt.len() as i64 + self.limit
    }

    fn push(&mut self, choice: &Choice, rows: &mut dyn RowSink) {
        if self.report_tokens {
            rows.token(self.row, self.token_ids.len(), choice.token);
        }
        self.token_ids.push(choice.token);
        self.score += choice.log_probability;
        self.margin = self.margin.min(choice.margin);
    }

    fn answer(&mut self, times: StageTimes) -> RowAnswer {
        let sequence = Sequence {
            token_ids: std::mem::take(&mut self.token_ids),
            score: self.score,
            margin: self.margin,
        };
        RowAnswer {
            output: RowOutput::Generated(vec![sequence]),
            vision: times.vision,
            text: times.text,
            decode: times.decode,
            image_reused: self.image_reused,
        }
    }
}

/// Decodes `live`, whose order is the stepper's row order. Returns the steps that it took.
pub(crate) fn decode(
    mut stepper: Stepper<'_>,
    mut live: Vec<LiveRow<'_>>,
    stop: Stop,
    stopwatch: &Stopwatch,
    rows: &mut dyn RowSink,
) -> Result<u32, TchError> {
    let mut tokens = vec![stop.start_token; live.len()];
    let max_steps = live.iter().map(LiveRow::max_steps).max().unwrap_or(0);
    let mut steps = 0;
    for step in 0..max_steps {
        steps += 1;
        let choices = stepper.step(&tokens, step)?;
        let times = stopwatch.times();
        tokens = choices.iter().map(|choice| choice.token).collect();
        for ((live, choice), next) in live.iter_mut().zip(&choices).zip(&mut tokens) {
            if live.done {
                continue;
            }
            if let Some(&given) = live.prompt.get(step as usize) {
                *next = given;
                live.done = rows.is_cancelled(live.row);
                continue;
            }
            live.push(choice, rows);
            let stopped = choice.token == stop.stop_token || live.token_ids.len() as i64 == live.limit;
            live.done = true;
            if !choice.log_probability.is_finite() {
                rows.finish(live.row, Err(RowError::NotFinite));
            } else if stopped {
                rows.finish(live.row, Ok(live.answer(times)));
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
    Ok(steps)
}
