//! The last layer of the decoder's head, from states to logits.

use tch::Tensor;

use crate::{
    checkpoint::{
        config::BlipConfig,
        weights::{
            Weights,
            tensor_names::{HEAD, WORDS},
        },
    },
    error::LoadError,
    layers::{linear::Linear, weight_path::WeightPath},
};

/// Name of the layer's weight below the head.
pub(crate) const WEIGHT: &str = "decoder.weight";

/// Returns whether the layer's weight is that of the word embeddings.
pub(crate) fn is_tied(weights: &Weights) -> bool {
    let name = format!("{HEAD}.{WEIGHT}");
    !weights.contains(&name) || weights.equal(&name, WORDS)
}

/// Loads the layer. Its weight is that of the `word` embeddings, unless the checkpoint has another
/// one.
pub(crate) fn load_vocabulary_layer(
    weights: &Weights,
    root: &WeightPath<'_>,
    config: &BlipConfig,
    word: &Tensor,
) -> Result<Linear, LoadError> {
    let (hidden, vocab) = (config.text.hidden_size, config.text.vocab_size);
    let (weight_name, bias_name) = (format!("{HEAD}.{WEIGHT}"), format!("{HEAD}.decoder.bias"));
    let tied = is_tied(weights);
    Ok(Linear {
        weight: if tied { word.shallow_clone() } else { root.tensor(&weight_name, &[vocab, hidden])? },
        bias: root.first_of([&bias_name, &format!("{HEAD}.bias")], &[vocab])?,
    })
}
