//! The text decoder (`text_decoder` of the reference).
//!
//! It is BERT with causal self-attention, cross-attention to encoder states, and a head over the
//! vocabulary. Encoder states are the question's states, or the image's features for captioning. A
//! step decodes one token of every row.

pub(crate) mod vocabulary_layer;
pub(crate) mod token_choice;
pub(crate) mod start_token;
pub(crate) mod state;

use std::{cell::OnceCell, rc::Rc};

use cuda::ChoiceKernel;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    checkpoint::{
        config::BlipConfig,
        weights::{Weights, tensor_names::HEAD},
    },
    decoder::{
        start_token::CachedStartToken,
        state::{DecoderState, LayerState, Position},
        token_choice::argmax_with_margin,
        vocabulary_layer::{WEIGHT, is_tied, load_vocabulary_layer},
    },
    device::transfer::to_device,
    error::LoadError,
    layers::{
        attention::causal_mask, dense::Dense, fused_kernels::FusedKernels, layer_norm::LayerNorm,
        text_embeddings::TextEmbeddings, weight_path::WeightPath,
    },
    text::{
        attention_weights::attended_text, hypotheses::HypothesisLayout, joined_projection::JoinedProjection,
        layer::TextLayer, self_attention_cache::SelfAttentionCache,
    },
};

/// The text decoder on LibTorch.
#[derive(Debug)]
pub(crate) struct TextDecoder {
    pub(crate) embeddings: TextEmbeddings,
    pub(crate) layers: Vec<TextLayer>,
    /// The layers' projections of encoder states, if LibTorch computes them.
    joined_projection: Option<JoinedProjection>,
    pub(crate) transform: Dense,
    pub(crate) transform_norm: LayerNorm,
    pub(crate) vocabulary: Dense,
    /// Native kernel that finds the best tokens, if available.
    choice: Option<Rc<ChoiceKernel>>,
    /// Start token, computed by the first batch.
    first_token: OnceCell<CachedStartToken>,
    device: Device,
}

impl TextDecoder {
    /// Loads `text_decoder.*`. `encoder_dim` is the width of the encoder states.
    pub(crate) fn load(
        weights: &Weights,
        root: &WeightPath<'_>,
        config: &BlipConfig,
        encoder_dim: i64,
        device: Device,
    ) -> Result<Self, LoadError> {
        let text = &config.text;
        let hidden = text.hidden_size;
        let bert = root.at("text_decoder.bert");
        let head = root.at(HEAD);
        let embeddings = TextEmbeddings::load(&bert, text)?;
        let mut layers = (0..text.num_hidden_layers)
            .map(|index| {
                TextLayer::load(&bert.at(format_args!("encoder.layer.{index}")), text, encoder_dim, false)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let joined_projection = JoinedProjection::join(&mut layers)?;
        if !is_tied(weights) {
            tracing::warn!(
                tensor = %format_args!("{HEAD}.{WEIGHT}"),
                "vocabulary weight differs from the tied word embeddings; the model uses it unchanged"
            );
        }
        let vocabulary = load_vocabulary_layer(weights, root, config, embeddings.word())?;
        let vocabulary = Dense::new(vocabulary, root.kernels(), root.cuda_gelu())?;
        Ok(Self {
            embeddings,
            layers,
            joined_projection,
            transform: Dense::load(&head.at("transform.dense"), hidden, hidden)?,
            transform_norm: LayerNorm::load(&head.at("transform.LayerNorm"), hidden, text.layer_norm_eps)?,
            vocabulary,
            choice: root.fused_kernels().map(FusedKernels::choice),
            first_token: OnceCell::new(),
            device,
        })
    }

    /// Returns each layer's cross-attention keys and values, projected from `states` `[rows,
    /// longest, hidden]`. Each is `[rows, longest, 2 * hidden]`.
    pub(crate) fn project(&self, states: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let joined = self.joined_projection.as_ref().map(|projection| projection.project(states));
        match joined.transpose()?.flatten() {
            Some(all) => (0..self.layers.len() as i64).map(|layer| all.f_select(2, layer)).collect(),
            None => self.layers.iter().map(|layer| layer.cross_attention.project(states)).collect(),
        }
    }

    /// Writes the keys and values of [`Self::project`] to `all` `[rows, longest, layers, 2 *
    /// hidden]`.
    pub(crate) fn project_into(&self, states: &Tensor, all: &Tensor) -> Result<(), TchError> {
        if let Some(projection) = &self.joined_projection
            && projection.project_into(states, all)?
        {
            return Ok(());
        }
        (0..).zip(&self.layers).try_for_each(|(index, layer)| {
            all.f_select(2, index)?.f_copy_(&layer.cross_attention.project(states)?)
        })
    }

    /// Returns how much the steps that read `tokens` attend to the encoder `states` `[1, positions,
    /// hidden]`, as `[tokens, positions]` in f32.
    ///
    /// The tokens are those of one answer, start token first. All steps are computed together.
    pub(crate) fn attention_weights(&self, tokens: &[i64], states: &Tensor) -> Result<Tensor, TchError> {
        let ids = to_device(tokens, self.device)?.f_unsqueeze(0)?;
        let key_values = self.project(states)?;
        let mask = causal_mask(tokens.len() as i64, self.device, states.kind())?;
        let embedded = self.embeddings.forward(&ids, 0)?;
        Ok(attended_text(&self.layers, embedded, Some(&mask), &key_values)?.weights)
    }

    /// Prepares decoding: projects the encoder states once for all steps.
    pub(crate) fn start(&self, states: &Tensor, padding: Option<Tensor>) -> Result<DecoderState, TchError> {
        let layer = |cross_attention| LayerState {
            self_attention: SelfAttentionCache::Growing(None),
            cross_attention,
        };
        let layers = self.project(states)?.into_iter().map(layer).collect();
        let layout = HypothesisLayout::one_each(states.size3()?.0);
        Ok(DecoderState { layers, padding, position: Position::Host(0), layout })
    }

    /// Feeds each row its last token. Returns the logits of the next token, `[rows, vocabulary]` in
    /// f32.
    pub(crate) fn step(&self, tokens: &[i64], state: &mut DecoderState) -> Result<Tensor, TchError> {
        self.next_logits(tokens, state)?.f_to_kind(Kind::Float)
    }

    /// Feeds each row its last token. Returns the best next tokens, as a table of
    /// [`argmax_with_margin`].
    pub(crate) fn choose(&self, tokens: &[i64], state: &mut DecoderState) -> Result<Tensor, TchError> {
        self.best_tokens(&self.next_logits(tokens, state)?)
    }

    /// Runs [`Self::choose`] for tokens `[rows, 1]` that are already on the device.
    pub(crate) fn choose_on_device(
        &self,
        ids: &Tensor,
        state: &mut DecoderState,
    ) -> Result<Tensor, TchError> {
        self.best_tokens(&self.step_on_device(ids, state)?)
    }

    /// Returns the table of [`argmax_with_margin`] of logits in the model's number format.
    fn best_tokens(&self, logits: &Tensor) -> Result<Tensor, TchError> {
        match &self.choice {
            Some(kernel) => Ok(kernel.choose(logits)?),
            None => argmax_with_margin(&logits.f_to_kind(Kind::Float)?),
        }
    }

    /// Runs [`Self::step`]. The logits are in the model's number format.
    fn next_logits(&self, tokens: &[i64], state: &mut DecoderState) -> Result<Tensor, TchError> {
        if let (Position::Host(position @ 0), Some(start)) = (&mut state.position, self.cached_start(tokens)?)
        {
            *position = 1;
            let states = start.start_rows(tokens.len() as i64, &mut state.layers)?;
            return self.finish_step(states, state);
        }
        let ids = to_device(tokens, self.device)?.f_view([tokens.len() as i64, 1])?;
        self.step_on_device(&ids, state)
    }

    /// Runs a step for tokens `[rows, 1]` on the device. The logits are in the model's number
    /// format.
    pub(crate) fn step_on_device(&self, ids: &Tensor, state: &mut DecoderState) -> Result<Tensor, TchError> {
        let mut states = match &mut state.position {
            Position::Host(position) => {
                *position += 1;
                self.embeddings.forward(ids, *position - 1)?
            }
            Position::Device(step) => self.embeddings.forward_at(ids, step)?,
        };
        if let (Some(layer), Some(layer_state)) = (self.layers.first(), state.layers.first_mut()) {
            states = layer.attend_to_cache(&states, &mut layer_state.self_attention)?;
        }
        self.finish_step(states, state)
    }

    /// Returns the cached start token if every row's token is the start token.
    fn cached_start(&self, tokens: &[i64]) -> Result<Option<&CachedStartToken>, TchError> {
        let Some((&first, others)) = tokens.split_first() else { return Ok(None) };
        if others.iter().any(|&token| token != first) {
            return Ok(None);
        }
        let start = match (self.first_token.get(), self.layers.first()) {
            (Some(start), _) => start,
            (None, Some(layer)) => {
                let start = CachedStartToken::new(first, &self.embeddings, layer, self.device)?;
                self.first_token.get_or_init(|| start)
            }
            (None, None) => return Ok(None),
        };
        Ok((start.token == first).then_some(start))
    }

    /// Completes a step from `states` `[rows, 1, hidden]`, the output of the first layer's
    /// self-attention.
    fn finish_step(&self, mut states: Tensor, state: &mut DecoderState) -> Result<Tensor, TchError> {
        let padding = state.padding.as_ref();
        for (index, (layer, layer_state)) in self.layers.iter().zip(&mut state.layers).enumerate() {
            if index > 0 {
                states = layer.attend_to_cache(&states, &mut layer_state.self_attention)?;
            }
            states = layer.finish_step(&states, &layer_state.cross_attention, padding, &state.layout)?;
        }
        let states = self.transform.forward_gelu(&states.f_select(1, 0)?)?;
        let states = self.transform_norm.forward(&states)?;
        self.vocabulary.forward(&states)
    }
}
