//! Decoder buffers with fixed shapes, so that one captured step serves all steps of all batches
//! that fit.

use std::collections::VecDeque;

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    checkpoint::config::text::TextConfig,
    cuda_graphs::recent_steps::RecentSteps,
    decoder::{
        TextDecoder,
        state::{DecoderState, LayerState, Position},
        token_choice::{TokenChoice, read_choices},
    },
    device::transfer::to_device,
    layers::attention::{lowest, mask_width, padding_mask},
    text::{hypotheses::HypothesisLayout, self_attention_cache::SelfAttentionCache},
};

/// The inputs of a step and the state between steps.
#[derive(Debug)]
pub(crate) struct DecodeBuffers {
    rows: i64,
    longest: i64,
    /// Steps of the longest possible answer of the batch.
    max_steps: i64,
    /// Encoder states of the questions, `[rows, longest, hidden]`.
    states: Tensor,
    /// Keys and values of the encoder states, `[rows, longest, layers, 2 * hidden]`.
    cross_attention: Tensor,
    /// Keys and values of the tokens so far, `[layers, 2, rows, heads, steps, head dim]`.
    self_attention: Tensor,
    /// Input tokens, `[rows, 1]` of i64.
    ids: Tensor,
    /// Index of the step, `[1]` of i64.
    step: Tensor,
    /// Mask of this step, `[1, 1, 1, mask width]`.
    visible: Tensor,
    /// Masks of all steps, `[mask width + 1, mask width]`. Row `t` is the mask of step `t`.
    visible_at: Tensor,
    /// Mask of the questions' padding, `[rows, 1, 1, mask width]`.
    padding: Tensor,
    /// Best tokens of all steps so far, `[steps, rows, 4]` in f32.
    tables: Tensor,
    state: DecoderState,
    /// The step that runs next, and its tokens, if they are on the device.
    next: Option<(i64, Vec<i64>)>,
    /// Steps that ran ahead of the caller's requests.
    ahead: VecDeque<CompletedStep>,
    recent: RecentSteps,
}

/// A step whose choices are on the host.
#[derive(Debug)]
struct CompletedStep {
    step: i64,
    /// Each row's last token.
    tokens: Vec<i64>,
    choices: Vec<TokenChoice>,
}

impl DecodeBuffers {
    /// Allocates buffers for `rows` rows, questions of up to `longest` tokens and answers of up to
    /// `steps` tokens.
    pub(crate) fn new(
        [rows, longest, steps]: [i64; 3],
        config: &TextConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Self, TchError> {
        let (hidden, heads, layers) =
            (config.hidden_size, config.num_attention_heads(), config.num_hidden_layers);
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (kind, device));
        let indices = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Int64, device));
        let cross_attention = zeros(&[rows, longest, layers, 2 * hidden])?;
        let self_attention = zeros(&[layers, 2, rows, heads, steps, hidden / heads])?;
        let [steps_width, longest_width] = [steps, longest].map(|positions| mask_width(positions, device));
        let (step, visible) = (indices(&[1])?, zeros(&[1, 1, 1, steps_width])?);
        let padding = zeros(&[rows, 1, 1, longest_width])?;
        let layers = (0..layers)
            .map(|layer| {
                let self_attention = SelfAttentionCache::Fixed {
                    key_value: self_attention.f_select(0, layer)?,
                    step: step.shallow_clone(),
                    visible: visible.shallow_clone(),
                };
                Ok(LayerState { self_attention, cross_attention: cross_attention.f_select(2, layer)? })
            })
            .collect::<Result<Vec<_>, TchError>>()?;
        Ok(Self {
            rows,
            longest,
            max_steps: steps,
            states: zeros(&[rows, longest, hidden])?,
            ids: indices(&[rows, 1])?,
            visible_at: Tensor::f_full([steps_width + 1, steps_width], lowest(kind), (kind, device))?
                .f_triu(1)?,
            state: DecoderState {
                layers,
                padding: Some(padding.shallow_clone()),
                position: Position::Device(step.shallow_clone()),
                layout: HypothesisLayout::one_each(rows),
            },
            cross_attention,
            self_attention,
            step,
            visible,
            padding,
            tables: Tensor::f_zeros([steps, rows, 4], (Kind::Float, device))?,
            next: None,
            ahead: VecDeque::new(),
            recent: RecentSteps::default(),
        })
    }

    /// Loads the encoder states `[rows, longest, hidden]` of a batch and the lengths of its
    /// questions. Its answers have up to `max_steps` steps.
    ///
    /// Rows, lengths and steps must fit the buffers.
    pub(crate) fn load(&mut self, states: &Tensor, lengths: &[i64], max_steps: i64) -> Result<(), TchError> {
        self.next = None;
        self.ahead.clear();
        self.recent.end_batch(self.max_steps);
        self.max_steps = max_steps;
        let (rows, longest, _) = states.size3()?;
        // Overwrites states of earlier batches. A NaN among them would pass even a weight of 0.
        let padded = states.f_constant_pad_nd([0, 0, 0, self.longest - longest])?;
        self.states.f_narrow(0, 0, rows)?.f_copy_(&padded)?;
        let (device, kind) = (self.padding.device(), self.padding.kind());
        let mut lengths = lengths.to_vec();
        // An additional row of full length makes the mask as wide as the buffer.
        lengths.push(self.longest);
        match padding_mask(&lengths, device, kind)? {
            Some(mask) => self.padding.f_narrow(0, 0, rows)?.f_copy_(&mask.f_narrow(0, 0, rows)?).map(drop),
            None => self.padding.f_zero_().map(drop),
        }
    }

    /// Runs the work after [`Self::load`]. All of it is on the device, so it can be captured.
    pub(crate) fn start(&mut self, decoder: &TextDecoder) -> Result<(), TchError> {
        drop(self.self_attention.f_zero_()?);
        decoder.project_into(&self.states, &self.cross_attention)
    }

    /// Feeds each row its last token. Returns the best next tokens.
    ///
    /// `run` runs [`Self::step`], by itself or as a graph.
    pub(crate) fn choose(
        &mut self,
        tokens: &[i64],
        step: i64,
        mut run: impl FnMut(&mut Self) -> Result<(), TchError>,
    ) -> Result<Vec<TokenChoice>, TchError> {
        self.recent.request(step);
        let is_requested =
            |completed: &CompletedStep| (completed.step, &completed.tokens[..]) == (step, tokens);
        if let Some(completed) = self.ahead.pop_front().filter(is_requested) {
            return Ok(completed.choices);
        }
        self.ahead.clear();
        self.set_step(tokens, step)?;
        let count = if step == 0 { self.recent.first_steps().min(self.max_steps) } else { 1 };
        for _ in 0..count {
            run(self)?;
        }
        self.read(tokens, step, count)
    }

    /// Sets the inputs of step `step`: each row's last token.
    ///
    /// Nothing is copied if the last step chose these tokens.
    fn set_step(&mut self, tokens: &[i64], step: i64) -> Result<(), TchError> {
        // A step that fails leaves no inputs for the next one.
        if self.next.take().is_some_and(|(next, chosen)| (next, &chosen[..]) == (step, tokens)) {
            return Ok(());
        }
        let ids = to_device(tokens, self.ids.device())?.f_view([tokens.len() as i64, 1])?;
        self.ids.f_narrow(0, 0, tokens.len() as i64)?.f_copy_(&ids)?;
        drop(self.step.f_fill_(step)?);
        let mask = self.visible_at.f_select(0, step)?;
        self.visible.f_copy_(&mask.f_view_as(&self.visible)?).map(drop)
    }

    /// Runs a step, stores its table, and sets the inputs of the next one to the tokens that it
    /// chooses.
    ///
    /// All of it is on the device, so it can be captured.
    pub(crate) fn step(&mut self, decoder: &TextDecoder) -> Result<(), TchError> {
        let table = decoder.choose_on_device(&self.ids, &mut self.state)?;
        drop(self.tables.f_index_copy_(0, &self.step, &table.f_unsqueeze(0)?)?);
        // The third column, token ids.
        self.ids.f_copy_(&table.f_narrow(1, 2, 1)?)?;
        drop(self.step.f_add_scalar_(1)?);
        let mask = self.visible_at.f_index_select(0, &self.step)?;
        self.visible.f_copy_(&mask.f_view_as(&self.visible)?).map(drop)
    }

    /// Copies the tables of `count` steps from `first` on to the host. Returns the choices of the
    /// first one, which read `tokens`. The others ran ahead.
    fn read(&mut self, tokens: &[i64], first: i64, count: i64) -> Result<Vec<TokenChoice>, TchError> {
        let all = read_choices(&self.tables.f_narrow(0, first, count)?)?;
        let mut steps = all.chunks(self.rows as usize).map(|table| table.iter().take(tokens.len()).copied());
        let first_choices: Vec<TokenChoice> = steps.next().into_iter().flatten().collect();
        if first_choices.len() != tokens.len() {
            let message = format!("decoder has {} rows, expected {}", first_choices.len(), tokens.len());
            return Err(TchError::Shape(message));
        }
        let mut last = token_ids(&first_choices);
        for (step, choices) in (first + 1..).zip(steps) {
            let choices: Vec<TokenChoice> = choices.collect();
            let chosen = token_ids(&choices);
            let tokens = std::mem::replace(&mut last, chosen);
            self.ahead.push_back(CompletedStep { step, tokens, choices });
        }
        self.next = Some((first + count, last));
        Ok(first_choices)
    }
}

fn token_ids(choices: &[TokenChoice]) -> Vec<i64> {
    choices.iter().map(|choice| choice.token).collect()
}
