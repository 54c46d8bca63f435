//! The size of one image's cross-attention keys and values.

use tch::Kind;

use crate::checkpoint::config::BlipConfig;

/// What the cache is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyValueShape {
    /// Layers that attend to images.
    pub(crate) layers: i64,
    /// Tokens of an image.
    pub(crate) tokens: i64,
    /// A key and a value of one token in one layer, in numbers.
    pub(crate) width: i64,
}

impl KeyValueShape {
    /// Returns the shape that the CPU implementation caches: for each layer, keys and values packed for its attention
    /// kernel as one token.
    pub(crate) fn for_config(config: &BlipConfig) -> Self {
        let tokens = usize::try_from(config.vision.tokens()).unwrap_or(0);
        let width = config.text.head_layout().packed_len(tokens) as i64;
        Self { layers: config.text.num_hidden_layers, tokens: 1, width }
    }

    /// Size of one image's keys and values, in bytes.
    pub(crate) fn bytes(&self, kind: Kind) -> usize {
        self.len() * kind.elt_size_in_bytes()
    }

    /// Numbers of one image's keys and values in all layers.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.layers).unwrap_or(0) * self.layer_len()
    }

    /// Those of one layer.
    pub(crate) fn layer_len(&self) -> usize {
        usize::try_from(self.tokens * self.width).unwrap_or(0)
    }
}
