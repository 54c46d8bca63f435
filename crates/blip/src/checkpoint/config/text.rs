//! The shape of the text encoder and of the text decoder.

use cpu_kernels::Heads;
use serde::Deserialize;

/// Shape of the text encoder and of the text decoder, which have separate weights.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Number of word embeddings, with the two extra tokens of BLIP.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Number of layers of the encoder and of the decoder.
    pub num_hidden_layers: i64,
    /// Number of attention heads in the file. [`Self::num_attention_heads`] adds the default.
    #[serde(rename = "num_attention_heads")]
    pub(crate) stated_heads: Option<i64>,
    /// Number of position embeddings: the longest question in tokens, with `[CLS]` and `[SEP]`.
    pub max_position_embeddings: i64,
    /// Activation of the feed-forward layer. Only the exact `gelu` is supported.
    pub hidden_act: String,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
    /// Token id of `[DEC]`, the start token of the decoder.
    pub bos_token_id: i64,
    /// Token id of padding.
    pub pad_token_id: i64,
    /// Token id that ends a question and an answer.
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
    /// Number of heads that the reference class uses without a value in the file.
    ///
    /// The released checkpoints have 12 heads and state them in their `config.json`. With 8 heads
    /// the same weights load, but the answers are wrong.
    pub const DEFAULT_HEADS: i64 = 8;

    /// Returns the number of attention heads of every text layer.
    pub fn num_attention_heads(&self) -> i64 {
        self.stated_heads.unwrap_or(Self::DEFAULT_HEADS)
    }

    /// Returns the head layout that the CPU kernels use to split a row of states.
    pub(crate) fn head_layout(&self) -> Heads {
        let heads = self.num_attention_heads();
        let size = |number: i64| usize::try_from(number).unwrap_or(0);
        Heads::new(size(heads), size(self.hidden_size / heads.max(1)))
    }
}
