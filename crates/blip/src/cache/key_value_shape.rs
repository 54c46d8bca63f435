//! The size of one image's cross-attention keys and values.

use cpu_kernels::NumberFormat;
use tch::Kind;

use crate::checkpoint::config::BlipConfig;

/// Shape of one image's keys and values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyValueShape {
    /// Number of layers that attend to images.
    pub(crate) layers: i64,
    /// Number of tokens of an image.
    pub(crate) tokens: i64,
    /// Length of a key and a value of one token in one layer, in values.
    pub(crate) width: i64,
}

impl KeyValueShape {
    /// Returns the shape that the CPU implementation caches for texts in `format`.
    ///
    /// The keys and values of a layer are packed for the attention kernel. They count as one token.
    pub(crate) fn for_config(config: &BlipConfig, format: NumberFormat) -> Self {
        let tokens = usize::try_from(config.vision.tokens()).unwrap_or(0);
        let width = config.text.head_layout().with_format(format).packed_len(tokens) as i64;
        Self { layers: config.text.num_hidden_layers, tokens: 1, width }
    }

    /// Returns the size of one image's keys and values, in bytes.
    pub(crate) fn bytes(&self, kind: Kind) -> usize {
        self.len() * kind.elt_size_in_bytes()
    }

    /// Returns the number of values of one image in all layers.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.layers).unwrap_or(0) * self.layer_len()
    }

    /// Returns the number of values of one image in one layer.
    pub(crate) fn layer_len(&self) -> usize {
        usize::try_from(self.tokens * self.width).unwrap_or(0)
    }
}
