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

/// Returns the number of queries over an image from which keys and values cost the native kernels
/// no more than absorbed projections.
///
/// It is 0 for small models, for which keys and values cost little.
pub(crate) fn absorption_threshold(config: &BlipConfig) -> i64 {
    let (tokens, heads) = (config.vision.tokens(), config.text.num_attention_heads());
    match config.vision.is_small() {
        true => 0,
        false => projection_threshold(tokens, heads, config.text.hidden_size, config.vision.hidden_size),
    }
}

/// Returns the number of queries over `tokens` tokens from which absorbed projections need no fewer
/// multiplications than keys and values. See `docs/decisions/cross-attention.md`.
///
/// `hidden` is the width of the queries, `encoder_dim` that of the tokens.
pub(crate) fn projection_threshold(tokens: i64, heads: i64, hidden: i64, encoder_dim: i64) -> i64 {
    let projecting = 2 * tokens * encoder_dim * hidden;
    let scores = 2 * tokens * hidden;
    let absorbing = 2 * (heads * tokens * encoder_dim + hidden * encoder_dim);
    match absorbing - scores {
        // Heads are wider than the features, so absorption is always cheaper.
        ..=0 => i64::MAX,
        more_per_query => (projecting + more_per_query - 1) / more_per_query,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the released size, five questions of twelve tokens are the most for which absorption is
    /// cheaper.
    #[test]
    fn threshold_at_the_released_size_is_63_queries() {
        assert_eq!(projection_threshold(577, 12, 768, 768), 63);
    }

    /// With one head, a query costs as much as a token. With heads wider than the features,
    /// absorption is always cheaper.
    #[test]
    fn threshold_with_one_head_depends_on_the_width() {
        assert_eq!(projection_threshold(577, 1, 8, 8), 577);
        assert_eq!(projection_threshold(577, 1, 16, 4), i64::MAX);
    }
}
