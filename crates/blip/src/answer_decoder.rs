//! The answer decoder: BERT with causal self-attention, cross-attention to the question, and a head over the
//! vocabulary (`text_decoder` of the reference). Greedy, one token a step for all rows at once.

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    config::BlipConfig,
    error::LoadError,
    layers::{LayerNorm, Linear},
    question_encoder::QuestionStates,
    text_embeddings::TextEmbeddings,
    text_layer::TextLayer,
    weights::{Scope, Weights},
};

const HEAD: &str = "text_decoder.cls.predictions";
const WORDS: &str = "text_decoder.bert.embeddings.word_embeddings.weight";

#[derive(Debug)]
pub(crate) struct AnswerDecoder {
    embeddings: TextEmbeddings,
    layers: Vec<TextLayer>,
    transform: Linear,
    transform_norm: LayerNorm,
    vocabulary: Linear,
    device: Device,
}

/// What is kept of the rows that are still being decoded.
#[derive(Debug)]
pub(crate) struct DecoderState {
    layers: Vec<LayerState>,
    padding: Option<Tensor>,
    steps: i64,
}

#[derive(Debug)]
struct LayerState {
    /// Keys and values of the tokens so far, `[2, rows, heads, steps, head dim]`.
    past: Option<Tensor>,
    /// Keys and values of the question, `[rows, longest, 2 * hidden]`.
    question: Tensor,
}

/// One row's best token at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: i64,
    /// Its log-probability, a natural logarithm.
    pub(crate) log_probability: f32,
    /// How far the second-best token's log-probability is below it.
    pub(crate) margin: f32,
}

impl AnswerDecoder {
    pub(crate) fn load(
        weights: &Weights,
        root: &Scope<'_>,
        config: &BlipConfig,
        device: Device,
    ) -> Result<Self, LoadError> {
        let text = &config.text;
        let (hidden, vocab) = (text.hidden_size, text.vocab_size);
        let bert = root.at("text_decoder.bert");
        let head = root.at(HEAD);
        let embeddings = TextEmbeddings::load(&bert, text)?;
        let layers = (0..text.num_hidden_layers)
            .map(|index| TextLayer::load(&bert.at(format_args!("encoder.layer.{index}")), text, hidden))
            .collect::<Result<_, _>>()?;
        let (weight_name, bias_name) = (format!("{HEAD}.decoder.weight"), format!("{HEAD}.decoder.bias"));
        let tied = !weights.contains(&weight_name) || weights.equal(&weight_name, WORDS);
        if !tied {
            tracing::warn!("{weight_name} differs from the word embeddings that it is tied to; it is used as it is");
        }
        let vocabulary = Linear {
            weight: if tied { embeddings.word().shallow_clone() } else { root.tensor(&weight_name, &[vocab, hidden])? },
            bias: root.first_of([&bias_name, &format!("{HEAD}.bias")], &[vocab])?,
        };
        Ok(Self {
            embeddings,
            layers,
            transform: Linear::load(&head.at("transform.dense"), hidden, hidden)?,
            transform_norm: LayerNorm::load(&head.at("transform.LayerNorm"), hidden, text.layer_norm_eps)?,
            vocabulary,
            device,
        })
    }

    /// Gets ready to decode: every layer's keys and values of the questions, made once.
    pub(crate) fn start(&self, questions: QuestionStates) -> Result<DecoderState, TchError> {
        let layers = self
            .layers
            .iter()
            .map(|layer| {
                Ok(LayerState { past: None, question: layer.cross_attention.project(&questions.states)? })
            })
            .collect::<Result<_, TchError>>()?;
        Ok(DecoderState { layers, padding: questions.padding, steps: 0 })
    }

    /// Feeds each row its last token and returns the logits of the next, `[rows, vocabulary]` in f32.
    pub(crate) fn step(&self, tokens: &[i64], state: &mut DecoderState) -> Result<Tensor, TchError> {
        let ids = Tensor::f_from_slice(tokens)?.f_view([tokens.len() as i64, 1])?.f_to_device(self.device)?;
        let mut states = self.embeddings.forward(&ids, state.steps)?;
        let padding = state.padding.as_ref();
        for (layer, kept) in self.layers.iter().zip(&mut state.layers) {
            states = layer.forward_step(&states, &mut kept.past, &kept.question, padding)?;
        }
        state.steps += 1;
        let mut states = self.transform.forward(&states.f_select(1, 0)?)?;
        let states = self.transform_norm.forward(&states.f_gelu_("none")?)?;
        self.vocabulary.forward(&states)?.f_to_kind(Kind::Float)
    }
}

impl DecoderState {
    /// Keeps only the rows at `indices`, in that order.
    pub(crate) fn retain(&mut self, indices: &[i64], device: Device) -> Result<(), TchError> {
        let indices = Tensor::f_from_slice(indices)?.f_to_device(device)?;
        for layer in &mut self.layers {
            layer.past = layer.past.take().map(|past| past.f_index_select(1, &indices)).transpose()?;
            layer.question = layer.question.f_index_select(0, &indices)?;
        }
        self.padding = self.padding.take().map(|padding| padding.f_index_select(0, &indices)).transpose()?;
        Ok(())
    }
}

/// The best token of each row of `logits` `[rows, vocabulary]`, brought to the host in one copy.
pub(crate) fn best_tokens(logits: &Tensor) -> Result<Vec<Choice>, TchError> {
    let rows = logits.size2()?.0;
    let total = logits.f_logsumexp(-1, true)?;
    let (first, token) = logits.f_max_dim(-1, true)?;
    // Two reductions are far quicker than a top-2 over a vocabulary of 30,000.
    let second = logits.f_scatter_value(-1, &token, f64::NEG_INFINITY)?.f_amax(-1, true)?;
    // Token ids stay below 2^24 (the configuration's limit), so f32 holds them exactly.
    let table = Tensor::f_cat(&[first, second, token.f_to_kind(Kind::Float)?, total], 1)?;
    let mut numbers = vec![0f32; rows as usize * 4];
    let count = numbers.len();
    table.f_to_device(Device::Cpu)?.f_contiguous()?.f_copy_data(&mut numbers, count)?;
    let (table, _) = numbers.as_chunks::<4>();
    let choices = table.iter().map(|&[first, second, token, total]| Choice {
        token: token as i64,
        log_probability: first - total,
        margin: first - second,
    });
    Ok(choices.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_token_comes_with_its_log_probability_and_margin() {
        let logits = Tensor::from_slice(&[0.0f32, 2.0, 1.0, 5.0, -1.0, 0.0]).view([2, 3]);
        let choices = best_tokens(&logits).unwrap();
        assert_eq!((choices[0].token, choices[1].token), (1, 0));
        let total = (0f32.exp() + 2f32.exp() + 1f32.exp()).ln();
        assert!((choices[0].log_probability - (2.0 - total)).abs() < 1e-6);
        assert_eq!(choices[0].margin, 1.0);
    }

    #[test]
    fn a_row_of_nan_has_no_finite_probability() {
        let logits = Tensor::from_slice(&[f32::NAN, 0.0, 1.0]).view([1, 3]);
        assert!(!best_tokens(&logits).unwrap()[0].log_probability.is_finite());
    }
}
