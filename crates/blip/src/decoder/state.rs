//! The state of the decoder between two steps of a batch.

use tch::{Device, TchError, Tensor};

use crate::{
    device::transfer::to_device,
    text::{hypotheses::HypothesisLayout, self_attention_cache::SelfAttentionCache},
};

/// The decoder's state of all active rows.
#[derive(Debug)]
pub(crate) struct DecoderState {
    pub(crate) layers: Vec<LayerState>,
    /// Mask of the encoder states' padding, `[encoder rows, 1, 1, mask width]`. `None` if none is
    /// padded.
    pub(crate) padding: Option<Tensor>,
    pub(crate) position: Position,
    /// Which hypotheses read which row of encoder states. Rows without search have one hypothesis.
    pub(crate) layout: HypothesisLayout,
}

/// The position of the next token.
#[derive(Debug)]
pub(crate) enum Position {
    /// Known to the host.
    Host(i64),
    /// `[1]` of i64 on the device.
    Device(Tensor),
}

/// The decoder's state of one layer.
#[derive(Debug)]
pub(crate) struct LayerState {
    pub(crate) self_attention: SelfAttentionCache,
    /// Keys and values of the encoder states, `[encoder rows, longest, 2 * hidden]`.
    pub(crate) cross_attention: Tensor,
}

impl DecoderState {
    /// Retains only the rows at `indices`, in this order. Each row has one hypothesis.
    pub(crate) fn retain(&mut self, indices: &[i64]) -> Result<(), TchError> {
        self.select_hypotheses(indices)?;
        self.select_encoder_rows(indices, HypothesisLayout::one_each(indices.len() as i64))
    }

    /// Selects the hypotheses at `hypotheses`, in this order. An index may repeat. Encoder states
    /// do not change.
    pub(crate) fn select_hypotheses(&mut self, hypotheses: &[i64]) -> Result<(), TchError> {
        let indices = to_device(hypotheses, self.device())?;
        self.layers.iter_mut().try_for_each(|layer| layer.self_attention.retain(&indices))
    }

    /// Selects the encoder states of the rows `encoder_rows`, in this order. An index may repeat.
    ///
    /// `layout` states which hypotheses read which of them.
    pub(crate) fn select_encoder_rows(
        &mut self,
        encoder_rows: &[i64],
        layout: HypothesisLayout,
    ) -> Result<(), TchError> {
        let had: i64 = self.layout.groups().iter().map(|group| group.encoder_rows).sum();
        self.layout = layout;
        if encoder_rows.iter().copied().eq(0..had) {
            return Ok(());
        }
        let indices = to_device(encoder_rows, self.device())?;
        for layer in &mut self.layers {
            layer.cross_attention = layer.cross_attention.f_index_select(0, &indices)?;
        }
        self.padding = self.padding.take().map(|padding| padding.f_index_select(0, &indices)).transpose()?;
        Ok(())
    }

    /// Returns a state that shares the tensors and can be decoded independently.
    pub(crate) fn shallow_clone(&self) -> Self {
        let layer = |layer: &LayerState| LayerState {
            self_attention: layer.self_attention.shallow_clone(),
            cross_attention: layer.cross_attention.shallow_clone(),
        };
        Self {
            layers: self.layers.iter().map(layer).collect(),
            padding: self.padding.as_ref().map(Tensor::shallow_clone),
            position: match &self.position {
                Position::Host(position) => Position::Host(*position),
                Position::Device(step) => Position::Device(step.shallow_clone()),
            },
            layout: self.layout.clone(),
        }
    }

    fn device(&self) -> Device {
        self.layers.first().map_or(Device::Cpu, |layer| layer.cross_attention.device())
    }
}
