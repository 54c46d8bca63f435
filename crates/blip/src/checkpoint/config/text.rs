//! The shape of the text encoder and of the text decoder.

use cpu_kernels::Heads;
use serde::Deserialize;

/// The shape of the question encoder and of the answer decoder (two copies with weights of their own).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Rows of the word embeddings, the two extra tokens of BLIP included.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Layers of each of the two copies.
    pub num_hidden_layers: i64,
    /// Attention heads if the file states them; read them by [`Self::num_attention_heads`].
    #[serde(rename = "num_attention_heads")]
    pub(crate) stated_heads: Option<i64>,
    /// Rows of the position embeddings: the longest question in tokens, `[CLS]` and `[SEP]` included.
    pub max_position_embeddings: i64,
    /// The feed-forward layer's activation; only the exact `gelu` is known.
    pub hidden_act: String,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
    /// The decoder's first token, `[DEC]`.
    pub bos_token_id: i64,
    /// Fills a batch up to its longest row.
    pub pad_token_id: i64,
    /// Ends a question and an answer.
    pub sep_token_id: i64,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            stated_heads: None,
            max_position_embeddings: 512,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            bos_token_id: 30522,
            pad_token_id: 0,
            sep_token_id: 102,
        }
    }
}

impl TextConfig {
    /// The reference class's default. It is a trap: the released checkpoints have 12 heads, say so in their
    /// `config.json`, and with 8 the same weights load and answer nonsense.
    pub const DEFAULT_HEADS: i64 = 8;

    /// Attention heads of every text layer.
    pub fn num_attention_heads(&self) -> i64 {
        self.stated_heads.unwrap_or(Self::DEFAULT_HEADS)
    }

    /// How the CPU kernels split a row of states into attention heads.
    pub(crate) fn head_layout(&self) -> Heads {
        let heads = self.num_attention_heads();
        let size = |number: i64| usize::try_from(number).unwrap_or(0);
        Heads::new(size(heads), size(self.hidden_size / heads.max(1)))
    }
}
