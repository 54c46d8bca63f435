//! A layer of the text encoder or decoder on slices: weights, and the computation that both share.

use cpu_kernels::{CpuLayerNorm, CpuLinear, Epilogue};

use crate::{
    checkpoint::config::text::TextConfig,
    cpu::{
        buffer_pool::Buffer,
        load::{load_fused, load_linear, load_norm, size},
    },
    error::LoadError,
    layers::{native_linear::copied, weight_path::WeightPath},
};

/// A post-norm layer. See `text/layer.rs` for LibTorch's version.
#[derive(Debug)]
pub(super) struct CpuTextLayer {
    /// Queries, keys and values of self-attention, each in head-major order.
    pub(super) qkv: CpuLinear,
    self_output: Residual,
    /// Queries of cross-attention.
    pub(super) query: CpuLinear,
    /// Keys and values of cross-attention, in this order.
    pub(super) key_value: CpuLinear,
    cross_output: Residual,
    up: CpuLinear,
    down: Residual,
}

/// A linear layer, the residual addition and the norm after it.
#[derive(Debug)]
struct Residual {
    linear: CpuLinear,
    norm: CpuLayerNorm,
}

impl Residual {
    /// Loads `dense` and `LayerNorm` below `path`.
    fn load(path: &WeightPath<'_>, inputs: i64, outputs: i64, eps: f64) -> Result<Self, LoadError> {
        let linear = load_linear(&path.at("dense"), inputs, outputs)?;
        Ok(Self { linear, norm: load_norm(&path.at("LayerNorm"), outputs, eps)? })
    }

    /// Adds the layer's product of `input` to `states` and normalizes them.
    fn forward(&self, input: &[f32], states: &mut [f32]) {
        self.linear.forward(input, states, Epilogue::Add);
        self.norm.forward_in_place(states);
    }
}

impl CpuTextLayer {
    /// Loads `encoder.layer.N.*`. `encoder_dim` is the width of what cross-attention reads.
    pub(super) fn load(
        path: &WeightPath<'_>,
        config: &TextConfig,
        encoder_dim: i64,
    ) -> Result<Self, LoadError> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let (attention, cross) = (path.at("attention"), path.at("crossattention"));
        Ok(Self {
            qkv: load_fused(&attention.at("self"), ["query", "key", "value"], hidden, hidden)?,
            self_output: Residual::load(&attention.at("output"), hidden, hidden, eps)?,
            query: load_linear(&cross.at("self.query"), hidden, hidden)?,
            key_value: load_fused(&cross.at("self"), ["key", "value"], encoder_dim, hidden)?,
            cross_output: Residual::load(&cross.at("output"), hidden, hidden, eps)?,
            up: load_linear(&path.at("intermediate.dense"), hidden, inner)?,
            down: Residual::load(&path.at("output"), inner, hidden, eps)?,
        })
    }

    /// Completes self-attention from its output `context`. Both slices are `[rows, hidden]`.
    pub(super) fn finish_self_attention(&self, context: &[f32], states: &mut [f32]) {
        self.self_output.forward(context, states);
    }

    /// Completes cross-attention and the layer from the output `context`. Both slices are `[rows,
    /// hidden]`.
    pub(super) fn finish(&self, context: &[f32], states: &mut [f32], wide: &mut Buffer) {
        self.cross_output.forward(context, states);
        let rows = states.len() / self.up.inputs();
        let inner = wide.take(rows * self.up.outputs());
        self.up.forward(states, inner, Epilogue::Gelu);
        self.down.forward(inner, states);
    }
}

/// Word and position embeddings with their norm. See `layers/text_embeddings.rs` for LibTorch's
/// version.
#[derive(Debug)]
pub(super) struct CpuTextEmbeddings {
    word: Vec<f32>,
    position: Vec<f32>,
    norm: CpuLayerNorm,
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

    /// Embeds tokens with their positions to `states` `[tokens, hidden]`.
    ///
    /// The model checks every batch, so ids and positions are within the tables.
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
