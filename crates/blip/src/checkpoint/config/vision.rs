//! The shape of the vision encoder.

use serde::Deserialize;

/// Shape of the vision encoder, a vision transformer with pre-norm layers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of attention heads, a divisor of `hidden_size`.
    pub num_attention_heads: i64,
    /// Height and width of the image in pixels.
    pub image_size: i64,
    /// Height and width of a patch in pixels, a divisor of `image_size`.
    pub patch_size: i64,
    /// Activation of the feed-forward layer. Only the exact `gelu` is supported.
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
    /// Returns the number of patches along one side of the image.
    pub fn grid(&self) -> i64 {
        self.image_size / self.patch_size.max(1)
    }

    /// Returns the number of tokens of an image: its patches and the class token before them.
    pub fn tokens(&self) -> i64 {
        self.grid() * self.grid() + 1
    }

    /// Returns whether the encoder is too small to share its work among CPU threads.
    ///
    /// After every product, each thread waits for the others in a spin loop. On a busy machine this
    /// costs far more than the threads gain.
    pub fn is_small(&self) -> bool {
        self.multiplications() < MULTIPLICATIONS_WORTH_SHARING
    }

    /// Returns the number of multiplications in the layers' matrix products for one image, or the
    /// largest number for shapes that no machine can compute.
    pub fn multiplications(&self) -> i64 {
        let (tokens, hidden) = (self.tokens(), self.hidden_size);
        // Each number of a state passes the weights, and attends to all tokens.
        let state = 4 * hidden + 2 * self.intermediate_size + 2 * tokens;
        self.num_hidden_layers.saturating_mul(tokens).saturating_mul(hidden).saturating_mul(state)
    }
}

/// Number of multiplications for an image below which a model is small.
const MULTIPLICATIONS_WORTH_SHARING: i64 = 1_000_000_000;
