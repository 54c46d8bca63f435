//! What is kept of a batch between two steps of the decoder.

use tch::{Device, TchError, Tensor};

use crate::{
    device::transfer::to_device,
    text::{hypotheses::HypothesisLayout, self_attention_cache::SelfAttentionCache},
};

/// What is kept of the rows that are being decoded.
#[derive(Debug)]
pub(crate) struct DecoderState {
    pub(crate) layers: Vec<LayerState>,
    /// `[memories, 1, 1, longest]`: hides the questions' padding; `None` if there is none.
    pub(crate) padding: Option<Tensor>,
    pub(crate) position: Position,
    /// Which rows read which memory; each its own, unless hypotheses share one.
    pub(crate) layout: HypothesisLayout,
}

/// Where the next token goes.
#[derive(Debug)]
pub(crate) enum Position {
    /// Known to the host.
    Host(i64),
    /// `[1]` of i64 on the device.
    Device(Tensor),
}

#[derive(Debug)]
pub(crate) struct LayerState {
    pub(crate) self_attention: SelfAttentionCache,
    /// Keys and values of the question, `[memories, longest, 2 * hidden]`.
    pub(crate) question: Tensor,
}

impl DecoderState {
    /// Keeps only the rows at `indices`, in that order; each has a memory of its own.
    pub(crate) fn retain(&mut self, indices: &[i64]) -> Result<(), TchError> {
        self.select_hypotheses(indices)?;
        self.select_memories(indices, HypothesisLayout::one_each(indices.len() as i64))
    }

    /// Goes on with the rows at `hypotheses`, in that order, each as often as it is named; the memories stay.
    pub(crate) fn select_hypotheses(&mut self, hypotheses: &[i64]) -> Result<(), TchError> {
        let indices = to_device(hypotheses, self.device())?;
        self.layers.iter_mut().try_for_each(|layer| layer.self_attention.retain(&indices))
    }

    /// Goes on with the memories at `memories`, in that order, each as often as it is named; `layout` says which rows read
    /// which of them.
    pub(crate) fn select_memories(
        &mut self,
        memories: &[i64],
        layout: HypothesisLayout,
    ) -> Result<(), TchError> {
        let had: i64 = self.layout.groups().iter().map(|group| group.memories).sum();
        self.layout = layout;
        if memories.iter().copied().eq(0..had) {
            return Ok(());
        }
        let indices = to_device(memories, self.device())?;
        for layer in &mut self.layers {
            layer.question = layer.question.f_index_select(0, &indices)?;
        }
        self.padding = self.padding.take().map(|padding| padding.f_index_select(0, &indices)).transpose()?;
        Ok(())
    }

    /// The same state, from which decoding may go on in another way.
    pub(crate) fn shallow_clone(&self) -> Self {
        let layer = |layer: &LayerState| LayerState {
            self_attention: layer.self_attention.shallow_clone(),
            question: layer.question.shallow_clone(),
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
        self.layers.first().map_or(Device::Cpu, |layer| layer.question.device())
    }
}
