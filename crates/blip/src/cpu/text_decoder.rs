//! The text decoder on slices. A step decodes one token of every row, greedily.

use std::{cell::RefCell, ops::Range};

use cpu_kernels::{CpuLayerNorm, CpuLinear, Epilogue, Heads, MatrixRows, attend_single_query, log_sum_exp};

use crate::{
    checkpoint::{config::BlipConfig, weights::tensor_names::HEAD},
    cpu::{
        buffer_pool::{Buffer, BufferPool, Buffers, PooledBuffer},
        load::{load_linear, load_norm, number_format},
        text_encoder::CpuTextStates,
        text_layer::{CpuTextEmbeddings, CpuTextLayer},
    },
    decoder::token_choice::TokenChoice,
    error::LoadError,
    layers::{linear::Linear, native_linear::packed, weight_path::WeightPath},
};

/// The text decoder with the head over the vocabulary.
#[derive(Debug)]
pub(crate) struct CpuTextDecoder {
    embeddings: CpuTextEmbeddings,
    layers: Vec<CpuTextLayer>,
    transform: CpuLinear,
    transform_norm: CpuLayerNorm,
    vocabulary: CpuLinear,
    heads: Heads,
    buffers: RefCell<(Buffers, [Buffer; 3])>,
    pool: BufferPool,
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
    /// Loads `text_decoder.*`. `vocabulary` is the last layer of the head.
    pub(super) fn load(
        root: &WeightPath<'_>,
        config: &BlipConfig,
        vocabulary: &Linear,
    ) -> Result<Self, LoadError> {
        let (bert, head, text) = (root.at("text_decoder.bert"), root.at(HEAD), &config.text);
        let layers = (0..text.num_hidden_layers)
            .map(|index| {
                CpuTextLayer::load(&bert.at(format_args!("encoder.layer.{index}")), text, text.hidden_size)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embeddings: CpuTextEmbeddings::load(&bert, text)?,
            layers,
            transform: load_linear(&head.at("transform.dense"), text.hidden_size, text.hidden_size)?,
            transform_norm: load_norm(
                &head.at("transform.LayerNorm"),
                text.hidden_size,
                text.layer_norm_eps,
            )?,
            vocabulary: packed(vocabulary, number_format(root))?,
            heads: config.text.head_layout().with_format(number_format(root)),
            buffers: RefCell::default(),
            pool: BufferPool::default(),
        })
    }

    /// Prepares the answers to the questions at `positions` of `states`, in this order.
    pub(crate) fn start(&self, states: &CpuTextStates, positions: &[i64]) -> CpuDecoderState {
        let tokens = states.token_ranges.last().map_or(0, |range| range.end);
        let questions = self.layers.iter().map(|layer| {
            let mut key_values = self.pool.take(tokens * layer.key_value.outputs());
            layer.key_value.forward(&states.states, &mut key_values, Epilogue::Store);
            key_values
        });
        let questions = questions.collect();
        let row = |&position: &i64| CpuDecoderRow {
            question: usize::try_from(position)
                .ok()
                .and_then(|position| states.token_ranges.get(position).cloned())
                .unwrap_or_default(),
            self_attention: vec![Vec::new(); self.layers.len()],
        };
        CpuDecoderState { questions, rows: positions.iter().map(row).collect(), position: 0 }
    }

    /// Feeds each row its last token. Returns the most likely next token of each row.
    pub(crate) fn step(&self, tokens: &[i64], state: &mut CpuDecoderState) -> Vec<TokenChoice> {
        let (buffers, [states, queries, logits]) = &mut *self.buffers.borrow_mut();
        let hidden = self.heads.width();
        let rows = state.rows.len();
        let (states, queries) = (states.take(rows * hidden), queries.take(rows * hidden));
        self.embeddings.forward(tokens.iter().map(|&token| (token, state.position)), states);
        state.position += 1;
        for ((number, layer), questions) in self.layers.iter().enumerate().zip(&state.questions) {
            let Buffers { wide, context, scores, .. } = &mut *buffers;
            let context = context.take(rows * hidden);
            let qkv = wide.take(rows * 3 * hidden);
            layer.qkv.forward(states, qkv, Epilogue::Store);
            let of_rows = state.rows.iter_mut().zip(qkv.chunks_exact(3 * hidden));
            for ((row, qkv), context) in of_rows.zip(context.chunks_exact_mut(hidden)) {
                let (query, key_value) = qkv.split_at(hidden);
                let Some(self_attention) = row.self_attention.get_mut(number) else { continue };
                self_attention.extend_from_slice(key_value);
                let self_attention = MatrixRows { data: self_attention, stride: 2 * hidden };
                attend_single_query(self.heads, query, self_attention, context, scores);
            }
            layer.finish_self_attention(context, states);
            layer.query.forward(states, queries, Epilogue::Store);
            let of_rows = state.rows.iter().zip(queries.chunks_exact(hidden));
            for ((row, query), context) in of_rows.zip(context.chunks_exact_mut(hidden)) {
                let Range { start, end } = row.question;
                let numbers = questions.get(2 * hidden * start..2 * hidden * end).unwrap_or_default();
                attend_single_query(
                    self.heads,
                    query,
                    MatrixRows { data: numbers, stride: 2 * hidden },
                    context,
                    scores,
                );
            }
            layer.finish(context, states, wide);
        }
        let normed = buffers.wide.take(rows * hidden);
        self.transform.forward(states, normed, Epilogue::Gelu);
        self.transform_norm.forward_in_place(normed);
        let logits = logits.take(rows * self.vocabulary.outputs());
        self.vocabulary.forward(normed, logits, Epilogue::Store);
        logits.chunks_exact(self.vocabulary.outputs()).map(argmax_with_margin).collect()
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
