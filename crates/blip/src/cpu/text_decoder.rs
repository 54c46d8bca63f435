//! The text decoder on slices. A step decodes one token of every row, greedily.

use std::{cell::RefCell, ops::Range, sync::Arc};

use cpu_kernels::{CpuLayerNorm, CpuLinear, Epilogue, Heads, log_sum_exp};
use tch::TchError;

use crate::{
    checkpoint::config::BlipConfig,
    cpu::{
        buffer_pool::{Buffer, BufferPool, PooledBuffer},
        text_encoder::CpuTextStates,
        text_layer::{CpuTextEmbeddings, CpuTextLayer, LayerBuffers},
    },
    decoder::{TextDecoder, token_choice::TokenChoice},
    parallel::{ParallelKernels, scratch::ScratchPool},
};

/// The text decoder with the head over the vocabulary.
#[derive(Debug)]
pub(crate) struct CpuTextDecoder {
    embeddings: CpuTextEmbeddings,
    network: Network,
    kernels: ParallelKernels,
    states: RefCell<Buffer>,
    pool: BufferPool,
}

/// What follows the embeddings.
#[derive(Debug)]
struct Network {
    layers: Vec<CpuTextLayer>,
    transform: Arc<CpuLinear>,
    transform_norm: Arc<CpuLayerNorm>,
    vocabulary: Arc<CpuLinear>,
    heads: Heads,
    buffers: ScratchPool<StepBuffers>,
}

/// Scratch memory of a step.
#[derive(Debug, Default)]
struct StepBuffers {
    layer: LayerBuffers,
    /// `[rows, vocabulary]`.
    logits: Buffer,
}

/// The state of the active rows between two steps.
#[derive(Debug)]
pub(crate) struct CpuDecoderState {
    /// For each layer, keys and values of all questions' tokens, `[tokens, 2 * hidden]`.
    questions: Vec<PooledBuffer>,
    rows: Vec<CpuDecoderRow>,
    position: usize,
}

/// The state of one row.
#[derive(Debug)]
struct CpuDecoderRow {
    /// Tokens of the row's question.
    question: Range<usize>,
    /// For each layer, keys and values of the generated tokens, `[tokens, 2 * hidden]`.
    self_attention: Vec<Vec<f32>>,
}

impl CpuTextDecoder {
    /// Creates a decoder that shares the weights of `decoder` and computes with `kernels`.
    ///
    /// Returns `None` if the layers of `decoder` do not use the native kernels.
    pub(crate) fn new(decoder: &TextDecoder, config: &BlipConfig, kernels: &ParallelKernels) -> Option<Self> {
        Some(Self {
            embeddings: CpuTextEmbeddings::new(&decoder.embeddings)?,
            network: Network {
                layers: decoder.layers.iter().map(CpuTextLayer::new).collect::<Option<_>>()?,
                transform: decoder.transform.native()?.clone(),
                transform_norm: decoder.transform_norm.native()?.clone(),
                vocabulary: decoder.vocabulary.native()?.clone(),
                heads: config.text.head_layout().with_format(kernels.number_format),
                buffers: ScratchPool::default(),
            },
            kernels: kernels.clone(),
            states: RefCell::default(),
            pool: BufferPool::default(),
        })
    }

    /// Prepares the answers to the questions at `positions` of `states`, in this order.
    pub(crate) fn start(&self, states: &CpuTextStates, positions: &[i64]) -> CpuDecoderState {
        let tokens = states.token_ranges.last().map_or(0, |range| range.end);
        let questions = self.network.layers.iter().map(|layer| {
            let mut key_values = self.pool.take(tokens * layer.key_value.outputs());
            self.kernels.linear(&layer.key_value, &states.states, &mut key_values, Epilogue::Store);
            key_values
        });
        let questions = questions.collect();
        let row = |&position: &i64| CpuDecoderRow {
            question: usize::try_from(position)
                .ok()
                .and_then(|position| states.token_ranges.get(position).cloned())
                .unwrap_or_default(),
            self_attention: vec![Vec::new(); self.network.layers.len()],
        };
        CpuDecoderState { questions, rows: positions.iter().map(row).collect(), position: 0 }
    }

    /// Feeds each row its last token. Returns the most likely next token of each row.
    ///
    /// # Errors
    /// [`TchError`] if the embeddings are in a number format without native kernels.
    pub(crate) fn step(
        &self,
        tokens: &[i64],
        state: &mut CpuDecoderState,
    ) -> Result<Vec<TokenChoice>, TchError> {
        let Self { network, kernels, .. } = self;
        let CpuDecoderState { questions, rows, position } = state;
        let hidden = network.heads.width();
        let states = &mut *self.states.borrow_mut();
        let states = states.take(rows.len() * hidden);
        self.embeddings.forward(tokens.iter().map(|&token| (token, *position)), states)?;
        *position += 1;
        let questions: Vec<&[f32]> = questions.iter().map(|questions| &**questions).collect();
        let mut choices = vec![TokenChoice::default(); rows.len()];
        match kernels.parts(rows.len()) {
            1 => network.step(kernels, &questions, rows, states, &mut choices),
            parts => {
                let (one_thread, of_part) = (kernels.on_one_thread(), rows.len().div_ceil(parts).max(1));
                let tasks = rows.chunks_mut(of_part).zip(states.chunks_mut(of_part * hidden));
                kernels.workers.each(tasks.zip(choices.chunks_mut(of_part)), |((rows, states), choices)| {
                    network.step(&one_thread, &questions, rows, states, choices);
                });
            }
        }
        Ok(choices)
    }
}

impl Network {
    /// Computes a step of some of the rows, from the embeddings `states` `[rows, hidden]` of their
    /// tokens.
    ///
    /// `questions` are the keys and values of all questions, for each layer.
    fn step(
        &self,
        kernels: &ParallelKernels,
        questions: &[&[f32]],
        rows: &mut [CpuDecoderRow],
        states: &mut [f32],
        choices: &mut [TokenChoice],
    ) {
        self.buffers.with(|StepBuffers { layer: buffers, logits }| {
            for ((number, layer), questions) in self.layers.iter().enumerate().zip(questions) {
                self.layer(kernels, (number, layer), questions, rows, states, buffers);
            }
            let LayerBuffers { context: normed, .. } = buffers;
            let normed = normed.take(states.len());
            kernels.linear(&self.transform, states, normed, Epilogue::Gelu);
            self.transform_norm.forward_in_place(normed);
            let logits = logits.take(rows.len() * self.vocabulary.outputs());
            kernels.linear(&self.vocabulary, normed, logits, Epilogue::Store);
            let logits = logits.chunks_exact(self.vocabulary.outputs());
            kernels.workers.each(choices.iter_mut().zip(logits), |(choice, logits)| {
                *choice = argmax_with_margin(logits);
            });
        });
    }

    fn layer(
        &self,
        kernels: &ParallelKernels,
        (number, layer): (usize, &CpuTextLayer),
        questions: &[f32],
        rows: &mut [CpuDecoderRow],
        states: &mut [f32],
        LayerBuffers { qkv, queries, context }: &mut LayerBuffers,
    ) {
        let hidden = self.heads.width();
        let qkv = qkv.take(3 * states.len());
        let (queries, context) = (queries.take(states.len()), context.take(states.len()));
        layer.begin(kernels, states, qkv);
        let of_rows = rows.iter_mut().zip(qkv.chunks_exact(3 * hidden)).zip(context.chunks_exact_mut(hidden));
        let of_rows = of_rows.map(|((row, qkv), context)| {
            let (query, key_value) = qkv.split_at_checked(hidden).unwrap_or_default();
            let self_attention = row.self_attention.get_mut(number);
            let key_values: &[f32] = self_attention.map_or(&[], |self_attention| {
                self_attention.extend_from_slice(key_value);
                self_attention
            });
            (query, key_values, context)
        });
        kernels.attend_single_queries(self.heads, of_rows);
        layer.self_output.forward(kernels, context, states);
        layer.queries(kernels, states, queries);
        let of_rows = rows.iter().zip(queries.chunks_exact(hidden)).zip(context.chunks_exact_mut(hidden));
        let of_rows = of_rows.map(|((row, query), context)| {
            let Range { start, end } = row.question;
            (query, questions.get(2 * hidden * start..2 * hidden * end).unwrap_or_default(), context)
        });
        kernels.attend_single_queries(self.heads, of_rows);
        layer.cross_output.forward(kernels, context, states);
        layer.finish(kernels, states);
    }
}

impl CpuDecoderState {
    /// Retains only the rows at `indices`, in this order.
    pub(crate) fn retain(&mut self, indices: &[i64]) {
        let mut rows: Vec<Option<CpuDecoderRow>> =
            std::mem::take(&mut self.rows).into_iter().map(Some).collect();
        let rows = indices.iter().filter_map(|&index| rows.get_mut(usize::try_from(index).ok()?)?.take());
        self.rows = rows.collect();
    }
}

/// Returns the best token of a row's `logits`, with its log-probability and margin.
fn argmax_with_margin(logits: &[f32]) -> TokenChoice {
    let (mut token, mut first, mut second) = (0, f32::NEG_INFINITY, f32::NEG_INFINITY);
    for (candidate, &logit) in (0..).zip(logits) {
        if logit > first {
            (token, first, second) = (candidate, logit, first);
        } else if logit > second {
            second = logit;
        }
    }
    TokenChoice { token, log_probability: first - log_sum_exp(logits), margin: first - second }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_token_has_its_log_probability_and_margin() {
        let choice = argmax_with_margin(&[0.0, 2.0, 1.0]);
        let total = (0f32.exp() + 2f32.exp() + 1f32.exp()).ln();
        assert_eq!((choice.token, choice.margin), (1, 1.0));
        assert!((choice.log_probability - (2.0 - total)).abs() < 1e-6);
    }

    #[test]
    fn a_row_of_nan_has_no_finite_probability() {
        assert!(!argmax_with_margin(&[0.0, f32::NAN, 1.0]).log_probability.is_finite());
        assert!(!argmax_with_margin(&[f32::NAN; 3]).log_probability.is_finite());
    }
}
