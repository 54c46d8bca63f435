//! The number of parameters of a model, computed from the shapes in its configuration.

use crate::checkpoint::config::{Architecture, BlipConfig, text::TextConfig, vision::VisionConfig};

impl BlipConfig {
    /// Returns the number of parameters of the model. The word embeddings that the decoder shares
    /// with its head are counted once.
    pub fn parameters(&self) -> i64 {
        let (text, images) = (&self.text, self.vision.hidden_size);
        let vision = vision_encoder(&self.vision);
        match self.architecture() {
            Architecture::QuestionAnswering => {
                let decoder = text_tower(text, text.hidden_size) + vocabulary_head(text);
                vision + text_tower(text, images) + decoder
            }
            Architecture::Captioning => vision + text_tower(text, images) + vocabulary_head(text),
            Architecture::Retrieval => {
                let width = self.image_text_hidden_size;
                let heads =
                    linear(images, width) + linear(text.hidden_size, width) + linear(text.hidden_size, 2);
                vision + text_tower(text, images) + heads
            }
        }
    }
}

fn linear(inputs: i64, outputs: i64) -> i64 {
    (inputs + 1) * outputs
}

fn norm(width: i64) -> i64 {
    2 * width
}

fn feed_forward(width: i64, inner: i64) -> i64 {
    linear(width, inner) + linear(inner, width)
}

fn vision_encoder(config: &VisionConfig) -> i64 {
    let (hidden, patch) = (config.hidden_size, config.patch_size);
    let layer = 2 * norm(hidden)
        + linear(hidden, 3 * hidden)
        + linear(hidden, hidden)
        + feed_forward(hidden, config.intermediate_size);
    let embeddings = (1 + config.tokens()) * hidden + linear(3 * patch * patch, hidden);
    embeddings + config.num_hidden_layers * layer + norm(hidden)
}

/// Returns the parameters of the text encoder, or of the text decoder without its head. Its
/// cross-attention reads states of width `memory_dim`.
fn text_tower(config: &TextConfig, memory_dim: i64) -> i64 {
    let hidden = config.hidden_size;
    let self_attention = 4 * linear(hidden, hidden) + norm(hidden);
    let cross_attention = 2 * linear(hidden, hidden) + 2 * linear(memory_dim, hidden) + norm(hidden);
    let layer =
        self_attention + cross_attention + feed_forward(hidden, config.intermediate_size) + norm(hidden);
    let embeddings = (config.vocab_size + config.max_position_embeddings) * hidden + norm(hidden);
    embeddings + config.num_hidden_layers * layer
}

/// Returns the parameters of the head besides the word embeddings.
fn vocabulary_head(config: &TextConfig) -> i64 {
    linear(config.hidden_size, config.hidden_size) + norm(config.hidden_size) + config.vocab_size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(class: Architecture, large: bool) -> BlipConfig {
        let mut config =
            BlipConfig { stated_architectures: vec![class.class().to_owned()], ..BlipConfig::default() };
        if large {
            let vision = &mut config.vision;
            (vision.hidden_size, vision.intermediate_size) = (1024, 4096);
            (vision.num_hidden_layers, vision.num_attention_heads) = (24, 16);
        }
        config
    }

    #[test]
    fn released_checkpoints_have_parameter_count_of_reference() {
        for (class, large, expected) in [
            (Architecture::QuestionAnswering, false, 361_230_140),
            (Architecture::Captioning, false, 223_971_644),
            (Architecture::Retrieval, false, 223_744_258),
            (Architecture::Captioning, true, 446_290_492),
            (Architecture::Retrieval, true, 446_128_642),
        ] {
            assert_eq!(config(class, large).parameters(), expected, "{}, large {large}", class.class());
        }
    }
}
