//! The shape of the vision encoder.

use serde::Deserialize;

/// The shape of the image encoder, a vision transformer with pre-norm layers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Attention heads; must divide `hidden_size`.
    pub num_attention_heads: i64,
    /// Height and width of the image in pixels.
    pub image_size: i64,
    /// Height and width of a patch in pixels; must divide `image_size`.
    pub patch_size: i64,
    /// The feed-forward layer's activation; only the exact `gelu` is known.
    pub hidden_act: String,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 384,
            patch_size: 16,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// Patches along one side of the image.
    pub fn grid(&self) -> i64 {
        self.image_size / self.patch_size.max(1)
    }

    /// Tokens of an image: its patches and the class token before them.
    pub fn tokens(&self) -> i64 {
        self.grid() * self.grid() + 1
    }

    /// Whether its work on the CPU is too small to be shared among threads: each waits, spinning, for the others after every
    /// product, and on a busy machine that costs far more than it gains.
    pub fn is_small(&self) -> bool {
        self.multiplications() < MULTIPLICATIONS_WORTH_SHARING
    }

    /// Multiplications that encoding one image takes, in the layers' matrix products.
    pub fn multiplications(&self) -> i64 {
        let (tokens, hidden) = (self.tokens(), self.hidden_size);
        let layer =
            tokens * hidden * (4 * hidden + 2 * self.intermediate_size) + 2 * tokens * tokens * hidden;
        self.num_hidden_layers * layer
    }
}

/// Below this many for an image, a model is small.
const MULTIPLICATIONS_WORTH_SHARING: i64 = 1_000_000_000;
