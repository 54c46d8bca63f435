//! A layer of the question encoder or of the answer decoder (`text_layer.rs` on slices): its weights, and what is the same in both.

use cpu_kernels::{After, LayerNorm, Linear};

use crate::{
    checkpoint::config::text::TextConfig,
    cpu::{
        buffer_pool::Buffer,
        load::{copied, load_fused, load_linear, load_norm, size},
    },
    error::LoadError,
    layers::weight_path::WeightPath,
};

#[derive(Debug)]
pub(super) struct CpuTextLayer {
    /// Queries, keys and values of self-attention, head-major inside each.
    pub(super) qkv: Linear,
    self_output: Residual,
    /// Cross-attention's queries.
    pub(super) query: Linear,
    /// Cross-attention's keys and values, side by side.
    pub(super) key_value: Linear,
    cross_output: Residual,
    up: Linear,
    down: Residual,
}

/// A linear layer whose product is added to the states, and the norm after that.
#[derive(Debug)]
struct Residual {
    linear: Linear,
    norm: LayerNorm,
}

impl Residual {
    fn load(path: &WeightPath<'_>, inputs: i64, outputs: i64, eps: f64) -> Result<Self, LoadError> {
        let linear = load_linear(&path.at("dense"), inputs, outputs)?;
        Ok(Self { linear, norm: load_norm(&path.at("LayerNorm"), outputs, eps)? })
    }

    fn forward(&self, input: &[f32], states: &mut [f32]) {
        self.linear.forward(input, states, After::Add);
        self.norm.forward_in_place(states);
    }
}

impl CpuTextLayer {
    /// Loads `encoder.layer.N.*`; `memory_dim` is the width of what cross-attention reads.
    pub(super) fn load(
        path: &WeightPath<'_>,
        config: &TextConfig,
        memory_dim: i64,
    ) -> Result<Self, LoadError> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let (attention, cross) = (path.at("attention"), path.at("crossattention"));
        Ok(Self {
            qkv: load_fused(&attention.at("self"), ["query", "key", "value"], hidden, hidden)?,
            self_output: Residual::load(&attention.at("output"), hidden, hidden, eps)?,
            query: load_linear(&cross.at("self.query"), hidden, hidden)?,
            key_value: load_fused(&cross.at("self"), ["key", "value"], memory_dim, hidden)?,
            cross_output: Residual::load(&cross.at("output"), hidden, hidden, eps)?,
            up: load_linear(&path.at("intermediate.dense"), hidden, inner)?,
            down: Residual::load(&path.at("output"), inner, hidden, eps)?,
        })
    }

    /// Behind self-attention, which gave `context`; both `[rows, hidden]`.
    pub(super) fn finish_self_attention(&self, context: &[f32], states: &mut [f32]) {
        self.self_output.forward(context, states);
    }

    /// Behind cross-attention, which gave `context`, to the layer's end; both `[rows, hidden]`.
    pub(super) fn finish(&self, context: &[f32], states: &mut [f32], wide: &mut Buffer) {
        self.cross_output.forward(context, states);
        let rows = states.len() / self.up.inputs();
        let inner = wide.take(rows * self.up.outputs());
        self.up.forward(states, inner, After::Gelu);
        self.down.forward(inner, states);
    }
}

/// Word and position embeddings with their norm (`text_embeddings.rs` on slices).
#[derive(Debug)]
pub(super) struct CpuTextEmbeddings {
    word: Vec<f32>,
    position: Vec<f32>,
    norm: LayerNorm,
    hidden: usize,
}

impl CpuTextEmbeddings {
    /// Loads `embeddings.*` below `path`.
    pub(super) fn load(path: &WeightPath<'_>, config: &TextConfig) -> Result<Self, LoadError> {
        let (path, hidden) = (path.at("embeddings"), config.hidden_size);
        let table =
            |name, rows| -> Result<Vec<f32>, LoadError> { Ok(copied(&path.tensor(name, &[rows, hidden])?)?) };
        Ok(Self {
            word: table("word_embeddings.weight", config.vocab_size)?,
            position: table("position_embeddings.weight", config.max_position_embeddings)?,
            norm: load_norm(&path.at("LayerNorm"), hidden, config.layer_norm_eps)?,
            hidden: size(hidden),
        })
    }

    /// Tokens, each with its position, to `states` `[tokens, hidden]`. Both are within the tables: a batch is checked before.
    pub(super) fn forward(&self, tokens: impl Iterator<Item = (i64, usize)>, states: &mut [f32]) {
        let row = |table: &[f32], index: usize| -> std::ops::Range<usize> {
            let first = index.saturating_mul(self.hidden).min(table.len());
            first..(first + self.hidden).min(table.len())
        };
        for ((token, position), state) in tokens.zip(states.chunks_exact_mut(self.hidden)) {
            let word =
                self.word.get(row(&self.word, usize::try_from(token).unwrap_or(0))).unwrap_or_default();
            let position = self.position.get(row(&self.position, position)).unwrap_or_default();
            for ((state, word), position) in state.iter_mut().zip(word).zip(position) {
                *state = word + position;
            }
        }
        self.norm.forward_in_place(states);
    }
}
