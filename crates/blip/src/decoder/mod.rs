//! The decoder: BERT with causal self-attention, cross-attention to a memory (the question's states, or the image's
//! features where captions are written), and a head over the vocabulary (`text_decoder` of the reference). One token a step
//! for all rows at once.

pub(crate) mod start_token;
pub(crate) mod state;

use std::cell::OnceCell;

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    checkpoint::{config::BlipConfig, weights::Weights},
    decoder::{
        start_token::DecoderStart,
        state::{DecoderState, LayerState, Position},
    },
    device::transfer::{to_device, to_host},
    error::LoadError,
    layers::{
        dense::{Dense, LayerNorm, Linear},
        text_embeddings::TextEmbeddings,
        weight_path::Scope,
    },
    text::{hypotheses::LaneLayout, layer::TextLayer, self_attention_cache::Past},
};

pub(crate) const HEAD: &str = "text_decoder.cls.predictions";
const WEIGHT: &str = "decoder.weight";
pub(crate) const WORDS: &str = "text_decoder.bert.embeddings.word_embeddings.weight";

#[derive(Debug)]
pub(crate) struct AnswerDecoder {
    embeddings: TextEmbeddings,
    layers: Vec<TextLayer>,
    transform: Dense,
    transform_norm: LayerNorm,
    vocabulary: Dense,
    /// Made with the first batch.
    first_token: OnceCell<DecoderStart>,
    device: Device,
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
    /// Loads `text_decoder.*`; `memory_dim` is the width of what its cross-attention reads.
    pub(crate) fn load(
        weights: &Weights,
        root: &Scope<'_>,
        config: &BlipConfig,
        memory_dim: i64,
        device: Device,
    ) -> Result<Self, LoadError> {
        let text = &config.text;
        let hidden = text.hidden_size;
        let bert = root.at("text_decoder.bert");
        let head = root.at(HEAD);
        let embeddings = TextEmbeddings::load(&bert, text)?;
        let layers = (0..text.num_hidden_layers)
            .map(|index| {
                TextLayer::load(&bert.at(format_args!("encoder.layer.{index}")), text, memory_dim, false)
            })
            .collect::<Result<_, _>>()?;
        if !is_tied(weights) {
            tracing::warn!(
                "{HEAD}.{WEIGHT} differs from the word embeddings that it is tied to; it is used as it is"
            );
        }
        let vocabulary = Dense::new(vocabulary(weights, root, config, embeddings.word())?)?;
        Ok(Self {
            embeddings,
            layers,
            transform: Dense::load(&head.at("transform.dense"), hidden, hidden)?,
            transform_norm: LayerNorm::load(&head.at("transform.LayerNorm"), hidden, text.layer_norm_eps)?,
            vocabulary,
            first_token: OnceCell::new(),
            device,
        })
    }

    /// The word embeddings, `[vocabulary, hidden]`.
    pub(crate) fn word(&self) -> &Tensor {
        self.embeddings.word()
    }

    /// Each layer's keys and values of the questions' `states` `[rows, longest, hidden]`.
    pub(crate) fn project<'a>(
        &'a self,
        states: &'a Tensor,
    ) -> impl Iterator<Item = Result<Tensor, TchError>> + 'a {
        self.layers.iter().map(|layer| layer.cross_attention.project(states))
    }

    /// Gets ready to decode: the questions' keys and values are made once.
    pub(crate) fn start(&self, states: &Tensor, padding: Option<Tensor>) -> Result<DecoderState, TchError> {
        let layers = self
            .project(states)
            .map(|question| Ok(LayerState { past: Past::Growing(None), question: question? }))
            .collect::<Result<_, TchError>>()?;
        let layout = LaneLayout::one_each(states.size3()?.0);
        Ok(DecoderState { layers, padding, position: Position::Host(0), layout })
    }

    /// Feeds each row its last token and returns the logits of the next, `[rows, vocabulary]` in f32.
    pub(crate) fn step(&self, tokens: &[i64], state: &mut DecoderState) -> Result<Tensor, TchError> {
        if let (Position::Host(position @ 0), Some(start)) = (&mut state.position, self.start_of_all(tokens)?)
        {
            *position = 1;
            let states = start.enter(tokens.len() as i64, &mut state.layers)?;
            return self.finish_step(states, state);
        }
        let ids = to_device(tokens, self.device)?.f_view([tokens.len() as i64, 1])?;
        self.step_on_device(&ids, state)
    }

    /// As [`Self::step`], with the tokens `[rows, 1]` on the device already.
    pub(crate) fn step_on_device(&self, ids: &Tensor, state: &mut DecoderState) -> Result<Tensor, TchError> {
        let mut states = match &mut state.position {
            Position::Host(position) => {
                *position += 1;
                self.embeddings.forward(ids, *position - 1)?
            }
            Position::Device(step) => self.embeddings.forward_at(ids, step)?,
        };
        if let (Some(layer), Some(kept)) = (self.layers.first(), state.layers.first_mut()) {
            states = layer.attend_to_past(&states, &mut kept.past)?;
        }
        self.finish_step(states, state)
    }

    /// What the first token comes to, if it is the same in all rows and the one that answers begin with here.
    fn start_of_all(&self, tokens: &[i64]) -> Result<Option<&DecoderStart>, TchError> {
        let Some((&first, others)) = tokens.split_first() else { return Ok(None) };
        if others.iter().any(|&token| token != first) {
            return Ok(None);
        }
        let start = match (self.first_token.get(), self.layers.first()) {
            (Some(start), _) => start,
            (None, Some(layer)) => {
                let start = DecoderStart::new(first, &self.embeddings, layer, self.device)?;
                self.first_token.get_or_init(|| start)
            }
            (None, None) => return Ok(None),
        };
        Ok((start.token == first).then_some(start))
    }

    /// The rest of a step, from `states` `[rows, 1, hidden]` behind the first layer's self-attention.
    fn finish_step(&self, mut states: Tensor, state: &mut DecoderState) -> Result<Tensor, TchError> {
        let padding = state.padding.as_ref();
        for (index, (layer, kept)) in self.layers.iter().zip(&mut state.layers).enumerate() {
            if index > 0 {
                states = layer.attend_to_past(&states, &mut kept.past)?;
            }
            states = layer.finish_step(&states, &kept.question, padding, &state.layout)?;
        }
        let states = self.transform.forward_gelu(&states.f_select(1, 0)?)?;
        let states = self.transform_norm.forward(&states)?;
        self.vocabulary.forward(&states)?.f_to_kind(Kind::Float)
    }
}

/// Whether the files leave the head's last weight to the word embeddings.
fn is_tied(weights: &Weights) -> bool {
    let name = format!("{HEAD}.{WEIGHT}");
    !weights.contains(&name) || weights.equal(&name, WORDS)
}

/// The head's last layer, from states to logits, whose weight is that of the `word` embeddings unless the files say otherwise.
pub(crate) fn vocabulary(
    weights: &Weights,
    root: &Scope<'_>,
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

/// The best token of each row of `logits` `[rows, vocabulary]`, with its logit and the next best one: each `[rows, 1]`.
pub(crate) fn best_two(logits: &Tensor) -> Result<(Tensor, Tensor, Tensor), TchError> {
    let (first, token) = logits.f_max_dim(-1, true)?;
    // Two reductions are far quicker than a top-2 over a vocabulary of 30,000.
    let second = logits.f_scatter_value(-1, &token, f64::NEG_INFINITY)?.f_amax(-1, true)?;
    Ok((token, first, second))
}

/// The best token of each row of `logits` `[rows, vocabulary]`, as numbers: `[rows, 4]` in f32.
pub(crate) fn choose(logits: &Tensor) -> Result<Tensor, TchError> {
    let total = logits.f_logsumexp(-1, true)?;
    let (token, first, second) = best_two(logits)?;
    // Token ids stay below 2^24 (the configuration's limit), so f32 holds them exactly.
    Tensor::f_cat(&[first, second, token.f_to_kind(Kind::Float)?, total], 1)
}

/// Brings what [`choose`] found to the host, in one copy.
pub(crate) fn read_choices(table: &Tensor) -> Result<Vec<Choice>, TchError> {
    let numbers = to_host(table)?;
    let (rows, _) = numbers.as_chunks::<4>();
    let choices = rows.iter().map(|&[first, second, token, total]| Choice {
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
        let choices = read_choices(&choose(&logits).unwrap()).unwrap();
        assert_eq!((choices[0].token, choices[1].token), (1, 0));
        let total = (0f32.exp() + 2f32.exp() + 1f32.exp()).ln();
        assert!((choices[0].log_probability - (2.0 - total)).abs() < 1e-6);
        assert_eq!(choices[0].margin, 1.0);
    }

    #[test]
    fn a_row_of_nan_has_no_finite_probability() {
        let logits = Tensor::from_slice(&[f32::NAN, 0.0, 1.0]).view([1, 3]);
        assert!(!read_choices(&choose(&logits).unwrap()).unwrap()[0].log_probability.is_finite());
    }
}
