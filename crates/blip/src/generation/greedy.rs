//! Greedy decoding of a batch, step by step. Each row is reported when it ends.

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
        token_choice::{TokenChoice, read_choices},
    },
    device::stage_timer::{StageTimer, StageTimes},
    generation::stopping_criteria::StoppingCriteria,
};

/// How a decoding step runs.
#[derive(Debug)]
pub(crate) enum DecodeBackend<'a> {
    /// Kernel by kernel on LibTorch. Completed rows are removed.
    LibTorch { decoder: &'a TextDecoder, state: DecoderState },
    /// As a captured graph. Completed rows are computed until all rows are complete.
    CudaGraph(&'a mut DecodeGraph),
    /// On the native CPU kernels. Completed rows are removed.
    Cpu { decoder: &'a CpuTextDecoder, state: CpuDecoderState },
}

impl DecodeBackend<'_> {
    /// Feeds each row its last token. Returns the best next tokens.
    fn step(&mut self, tokens: &[i64], step: i64) -> Result<Vec<TokenChoice>, TchError> {
        match self {
            Self::LibTorch { decoder, state } => read_choices(&decoder.choose(tokens, state)?),
            Self::CudaGraph(graph) => graph.step(tokens, step),
            Self::Cpu { decoder, state } => decoder.step(tokens, state),
        }
    }

    /// Retains only the rows at `indices`. Returns false if the backend cannot remove rows.
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

/// A row that is still decoded.
#[derive(Debug)]
pub(crate) struct ActiveRow<'a> {
    /// The caller's index.
    row: usize,
    /// Prompt after the start token. The decoder reads one of its tokens in each step.
    ///
    /// Therefore rows with prompts of different lengths are at the same position, and no mask is
    /// needed.
    prompt: &'a [i64],
    /// Limit of generated tokens.
    limit: i64,
    report_tokens: bool,
    token_ids: Vec<i64>,
    score: f32,
    margin: f32,
    image_reused: bool,
    done: bool,
}

impl<'a> ActiveRow<'a> {
    /// Creates a row without generated tokens.
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

    /// Returns the largest number of decoder steps that the row needs.
    pub(crate) fn max_steps(&self) -> i64 {
        self.prompt.len() as i64 + self.limit
    }

    /// Adds a generated token and reports it if the row requests that.
    fn push(&mut self, choice: &TokenChoice, rows: &mut dyn RowSink) {
        if self.report_tokens {
            rows.token(self.row, self.token_ids.len(), choice.token);
        }
        self.token_ids.push(choice.token);
        self.score += choice.log_probability;
        self.margin = self.margin.min(choice.margin);
    }

    /// Returns the row's answer with the time of each stage.
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

/// Decodes `active`, which is in the row order of the backend. Returns the number of steps.
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
        // Removing rows copies every cache once. It pays off only when a quarter of the rows is
        // complete.
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
