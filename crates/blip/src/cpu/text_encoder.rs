//! The text encoder on slices. Texts of any lengths are consecutive and not padded.
//!
//! With enough tokens, each thread computes a layer for some of the texts. Otherwise the threads
//! divide each product.

use std::{cell::RefCell, ops::Range};

use cpu_kernels::Heads;
use tch::{TchError, Tensor};

use crate::{
    batch::layout::BatchLayout,
    cache::key_value_shape::absorption_threshold,
    checkpoint::config::BlipConfig,
    cpu::{
        buffer_pool::{Buffer, BufferPool, PooledBuffer},
        image_states::{CpuImageStates, QueriedImage, span},
        load::size,
        text_layer::{CpuTextEmbeddings, CpuTextLayer, LayerBuffers},
    },
    layers::{attention::padding_mask, tensor_slice::filled},
    parallel::{
        ParallelKernels,
        image_attention::{AttendedImage, ImageAttention},
        scratch::ScratchPool,
    },
    text::{encoder::TextEncoder, encoder_states::EncoderStates},
};

/// The text encoder. Its cross-attention to images is optional.
#[derive(Debug)]
pub(crate) struct CpuTextEncoder {
    embeddings: CpuTextEmbeddings,
    layers: Vec<CpuTextLayer>,
    heads: Heads,
    /// Number of queries over an image from which its keys and values are computed.
    pub(super) absorption_threshold: usize,
    kernels: ParallelKernels,
    buffers: ScratchPool<LayerBuffers>,
    /// Keys and values of images that no cache stores.
    temporary: RefCell<Buffer>,
    pool: BufferPool,
}

/// The encoder's states of a batch of texts.
#[derive(Debug)]
pub(crate) struct CpuTextStates {
    /// `[tokens, hidden]`.
    pub(super) states: PooledBuffer,
    /// Tokens of each text.
    pub(super) token_ranges: Vec<Range<usize>>,
    hidden: usize,
}

/// A layer, and what all parts of a batch read in it.
#[derive(Clone, Copy, Debug)]
struct LayerInputs<'a> {
    layer: &'a CpuTextLayer,
    heads: Heads,
    token_ranges: &'a [Range<usize>],
    /// `None` without cross-attention.
    images: Option<LayerImages<'a>>,
    buffers: &'a ScratchPool<LayerBuffers>,
}

/// What the queries about each image read in a layer.
#[derive(Clone, Copy, Debug)]
struct LayerImages<'a> {
    queried: &'a [QueriedImage<'a>],
    attended: &'a [AttendedImage<'a>],
    /// Tokens of an image.
    tokens: usize,
}

impl CpuTextEncoder {
    /// Creates an encoder that shares the weights of `encoder` and computes with `kernels`.
    ///
    /// Returns `None` if the layers of `encoder` do not use the native kernels.
    pub(crate) fn new(encoder: &TextEncoder, config: &BlipConfig, kernels: &ParallelKernels) -> Option<Self> {
        Some(Self {
            embeddings: CpuTextEmbeddings::new(&encoder.embeddings)?,
            layers: encoder.layers.iter().map(CpuTextLayer::new).collect::<Option<_>>()?,
            heads: config.text.head_layout().with_format(kernels.number_format),
            absorption_threshold: size(absorption_threshold(config)),
            kernels: kernels.clone(),
            buffers: ScratchPool::default(),
            temporary: RefCell::default(),
            pool: BufferPool::default(),
        })
    }

    /// Encodes `texts`. With `images`, they attend to these. Both are in the order of the layout.
    ///
    /// # Errors
    /// [`TchError`] if features, keys or values of an image are missing.
    pub(crate) fn forward(
        &self,
        texts: &[&[i64]],
        mut images: Option<(&mut CpuImageStates<'_>, &BatchLayout)>,
    ) -> Result<CpuTextStates, TchError> {
        let (heads, kernels, hidden) = (self.heads, &self.kernels, self.heads.width());
        let mut token_ranges = Vec::with_capacity(texts.len());
        let mut tokens = 0;
        for text in texts {
            token_ranges.push(tokens..tokens + text.len());
            tokens += text.len();
        }
        let mut states = self.pool.take(tokens * hidden);
        let ids = texts.iter().flat_map(|text| text.iter().copied().zip(0..));
        self.embeddings.forward(ids, &mut states)?;
        let queried = match &images {
            Some((images, layout)) => {
                images.queried(layout, &token_ranges, self.absorption_threshold, kernels)
            }
            None => Vec::new(),
        };
        let parts = parts(&token_ranges, kernels.parts(tokens));
        let one_thread = kernels.on_one_thread();
        let temporary = &mut *self.temporary.borrow_mut();
        for (number, layer) in self.layers.iter().enumerate() {
            let tokens = images.as_ref().map_or(0, |(images, _)| images.tokens());
            let attended = match &mut images {
                Some((images, _)) => {
                    Some(images.attended(&queried, (number, layer), heads, kernels, temporary)?)
                }
                None => None,
            };
            let images =
                attended.as_ref().map(|attended| LayerImages { queried: &queried, attended, tokens });
            let buffers = &self.buffers;
            let inputs = LayerInputs { layer, heads, token_ranges: &token_ranges, images, buffers };
            // With few long texts, some threads would have no part.
            if parts.len() < kernels.workers.threads() {
                inputs.compute(0..texts.len(), &mut states, kernels);
                continue;
            }
            let mut rest = &mut *states;
            let tasks = parts.iter().cloned().map(|texts| {
                let tokens = span(&token_ranges, texts.clone()).len();
                let (states, others) =
                    std::mem::take(&mut rest).split_at_mut_checked(tokens * hidden).unwrap_or_default();
                rest = others;
                (texts, states)
            });
            kernels.workers.each(tasks, |(texts, states)| inputs.compute(texts, states, &one_thread));
        }
        Ok(CpuTextStates { states, token_ranges, hidden })
    }
}

impl LayerInputs<'_> {
    /// Computes the layer for some of the texts, whose states are `states` `[tokens, hidden]`.
    fn compute(self, texts: Range<usize>, states: &mut [f32], kernels: &ParallelKernels) {
        let Self { layer, heads, token_ranges, images, buffers } = self;
        let tokens = span(token_ranges, texts.clone());
        let lengths = token_ranges.get(texts).unwrap_or_default().iter().map(ExactSizeIterator::len);
        buffers.with(|LayerBuffers { qkv, queries, context }| {
            let qkv = qkv.take(3 * states.len());
            let (queries, context) = (queries.take(states.len()), context.take(states.len()));
            layer.begin(kernels, states, qkv);
            kernels.attend_within(heads, qkv, lengths, context);
            layer.self_output.forward(kernels, context, states);
            if let Some(images) = images {
                layer.queries(kernels, states, queries);
                images.attend(heads, tokens, queries, context, kernels);
                layer.cross_output.forward(kernels, context, states);
            }
            layer.finish(kernels, states);
        });
    }
}

impl LayerImages<'_> {
    /// Computes the `context` of the `queries` of texts with the tokens `tokens`. Both slices are
    /// `[tokens, hidden]`.
    fn attend(
        self,
        heads: Heads,
        tokens: Range<usize>,
        queries: &[f32],
        context: &mut [f32],
        kernels: &ParallelKernels,
    ) {
        let hidden = heads.width();
        let mut rest = (queries, context);
        let of_images = self.queried.iter().zip(self.attended).map(|(image, &attended)| {
            let of_image = &image.text_tokens;
            let count = of_image.end.min(tokens.end).saturating_sub(of_image.start.max(tokens.start));
            let (queries, context) = std::mem::take(&mut rest);
            let (queries, other_queries) = queries.split_at_checked(count * hidden).unwrap_or_default();
            let (context, other_context) = context.split_at_mut_checked(count * hidden).unwrap_or_default();
            rest = (other_queries, other_context);
            ImageAttention { queries, image: attended, context }
        });
        kernels.attend_images(heads, self.tokens, of_images);
    }
}

/// Cuts texts into at most `count` parts with nearly equal numbers of tokens.
fn parts(token_ranges: &[Range<usize>], count: usize) -> Vec<Range<usize>> {
    let tokens = token_ranges.last().map_or(0, |range| range.end);
    let cuts = (1..=count).map(|part| tokens * part / count);
    let mut first = 0;
    let parts = cuts.filter_map(|cut| {
        // A text belongs to the part that has its middle.
        let end = token_ranges.partition_point(|range| range.start + range.len() / 2 < cut);
        let part = first..end.max(first);
        first = part.end;
        (!part.is_empty()).then_some(part)
    });
    parts.collect()
}

impl CpuTextStates {
    /// Returns the state of each text's first token, `[texts, hidden]`.
    pub(crate) fn first_states(&self) -> Result<Tensor, TchError> {
        let hidden = self.hidden;
        filled(&[self.token_ranges.len() as i64, hidden as i64], |first_states| {
            for (range, out) in self.token_ranges.iter().zip(first_states.chunks_exact_mut(hidden)) {
                let state = self.states.get(range.start * hidden..(range.start + 1) * hidden);
                out.copy_from_slice(state.unwrap_or_default());
            }
            Ok(())
        })
    }

    /// Returns the states for LibTorch's decoder, with questions padded to the longest.
    pub(crate) fn to_encoder_states(&self) -> Result<EncoderStates, TchError> {
        let (device, kind) = (tch::Device::Cpu, tch::Kind::Float);
        let lengths: Vec<i64> = self.token_ranges.iter().map(|range| range.len() as i64).collect();
        let longest = self.token_ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let mut padded = vec![0.0; self.token_ranges.len() * longest * self.hidden];
        for (range, out) in
            self.token_ranges.iter().zip(padded.chunks_exact_mut((longest * self.hidden).max(1)))
        {
            let states =
                self.states.get(range.start * self.hidden..range.end * self.hidden).unwrap_or_default();
            out.iter_mut().zip(states).for_each(|(out, state)| *out = *state);
        }
        let shape = [lengths.len(), longest, self.hidden].map(|size| size as i64);
        let states = Tensor::f_from_slice(&padded)?.f_view(shape)?;
        Ok(EncoderStates { states, padding: padding_mask(&lengths, device, kind)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_have_each_text_once_and_nearly_equal_tokens(
            lengths in prop::collection::vec(1usize..40, 1..60),
            count in 1usize..9,
        ) {
            let mut end = 0;
            let token_ranges: Vec<Range<usize>> = lengths
                .iter()
                .map(|length| {
                    end += length;
                    end - length..end
                })
                .collect();
            let parts = parts(&token_ranges, count);
            prop_assert!(parts.len() <= count);
            prop_assert!(parts.iter().cloned().flatten().eq(0..lengths.len()));
            for part in parts {
                let tokens = span(&token_ranges, part).len();
                prop_assert!(tokens <= end.div_ceil(count) + 40, "{tokens} of {end} tokens in {count} parts");
            }
        }
    }
}
