//! Greedy decoding of a batch: one step after another, each row reported when it ends.

use tch::TchError;

use crate::{
    batch::{
        rows::{RowAnswer, RowError, RowSink},
        task::{RowOutput, Sequence},
    },
    cpu::text_decoder::{CpuDecoderState, CpuTextDecoder},
    cuda_graphs::DecodeGraph,
    decoder::{
        TextDecoder,
        state::DecoderState,
        token_choice::{TokenChoice, argmax_with_margin, read_choices},
    },
    device::stage_timer::{StageTimer, StageTimes},
    generation::stopping_criteria::StoppingCriteria,
};

/// What makes the next token of every row.
#[derive(Debug)]
pub(crate) enum DecodeBackend<'a> {
    /// Kernel by kernel; rows that ended are taken out.
    LibTorch { decoder: &'a TextDecoder, state: DecoderState },
    /// A captured step; rows that ended run along until all have.
    CudaGraph(&'a mut DecodeGraph),
    /// On slices; rows that ended are taken out.
    Cpu { decoder: &'a CpuTextDecoder, state: CpuDecoderState },
}

impl DecodeBackend<'_> {
    fn step(&mut self, tokens: &[i64], step: i64) -> Result<Vec<TokenChoice>, TchError> {
        match self {
            Self::LibTorch { decoder, state } => {
                read_choices(&argmax_with_margin(&decoder.step(tokens, state)?)?)
            }
            Self::CudaGraph(graph) => graph.step(tokens, step),
            Self::Cpu { decoder, state } => Ok(decoder.step(tokens, state)),
        }
    }

    /// Keeps only the rows at `indices`, if rows can be taken out; says whether they were.
    fn retain(&mut self, indices: &[i64]) -> Result<bool, TchError> {
        match self {
            Self::LibTorch { state, .. } => state.retain(indices).map(|()| true),
            Self::CudaGraph(_) => Ok(false),
            Self::Cpu { state, .. } => {
                state.retain(indices);
                Ok(true)
            }
        }
    }
}

/// A row that is being decoded.
#[derive(Debug)]
pub(crate) struct ActiveRow<'a> {
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

impl<'a> ActiveRow<'a> {
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

    fn push(&mut self, choice: &TokenChoice, rows: &mut dyn RowSink) {
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

/// Decodes `active`, whose order is the backend's row order. Returns the steps that it took.
pub(crate) fn decode(
    mut backend: DecodeBackend<'_>,
    mut active: Vec<ActiveRow<'_>>,
    stopping: StoppingCriteria,
    timer: &StageTimer,
    rows: &mut dyn RowSink,
) -> Result<u32, TchError> {
    let mut tokens = vec![stopping.start_token; active.len()];
    let max_steps = active.iter().map(ActiveRow::max_steps).max().unwrap_or(0);
    let mut steps = 0;
    for step in 0..max_steps {
        steps += 1;
        let choices = backend.step(&tokens, step)?;
        let times = timer.times();
        tokens = choices.iter().map(|choice| choice.token).collect();
        for ((active, choice), next) in active.iter_mut().zip(&choices).zip(&mut tokens) {
            if active.done {
                continue;
            }
            if let Some(&given) = active.prompt.get(step as usize) {
                *next = given;
                active.done = rows.is_cancelled(active.row);
                continue;
            }
            active.push(choice, rows);
            let stopped =
                choice.token == stopping.stop_token || active.token_ids.len() as i64 == active.limit;
            active.done = true;
            if !choice.log_probability.is_finite() {
                rows.finish(active.row, Err(RowError::NotFinite));
            } else if stopped {
                rows.finish(active.row, Ok(active.answer(times)));
            } else {
                active.done = rows.is_cancelled(active.row);
            }
        }
        let left = active.iter().filter(|active| !active.done).count();
        if left == 0 {
            break;
        }
        // Closing gaps copies every cache once: worth it only when a good part of the rows is gone.
        if left * 4 <= active.len() * 3 {
            let remaining: Vec<usize> =
                (0..active.len()).filter(|&index| active.get(index).is_some_and(|row| !row.done)).collect();
            let indices: Vec<i64> = remaining.iter().map(|&index| index as i64).collect();
            if backend.retain(&indices)? {
                tokens = remaining.iter().filter_map(|&index| tokens.get(index).copied()).collect();
                active.retain(|row| !row.done);
            }
        }
    }
    Ok(steps)
}
