//! The text encoder on slices. Questions of any lengths are consecutive and not padded.

use std::{cell::RefCell, ops::Range};

use cpu_kernels::{Epilogue, Heads, MatrixRows};
use tch::{TchError, Tensor};

use crate::{
    batch::layout::BatchLayout,
    checkpoint::config::BlipConfig,
    cpu::{
        buffer_pool::{Buffer, BufferPool, Buffers, PooledBuffer},
        image_states::CpuImageStates,
        load::{number_format, size},
        text_layer::{CpuTextEmbeddings, CpuTextLayer},
    },
    error::LoadError,
    layers::{attention::padding_mask, weight_path::WeightPath},
    text::encoder_states::EncoderStates,
};

/// The text encoder with cross-attention to images.
#[derive(Debug)]
pub(crate) struct CpuTextEncoder {
    embeddings: CpuTextEmbeddings,
    layers: Vec<CpuTextLayer>,
    heads: Heads,
    buffers: RefCell<(Buffers, Buffer)>,
    pool: BufferPool,
}

/// The encoder's states of a batch of questions.
#[derive(Debug)]
pub(crate) struct CpuTextStates {
    /// `[tokens, hidden]`.
    pub(super) states: PooledBuffer,
    /// Tokens of each question.
    pub(super) token_ranges: Vec<Range<usize>>,
    hidden: usize,
}

impl CpuTextEncoder {
    /// Loads `text_encoder.*`.
    pub(super) fn load(root: &WeightPath<'_>, config: &BlipConfig) -> Result<Self, LoadError> {
        let (path, text) = (root.at("text_encoder"), &config.text);
        let layers = (0..text.num_hidden_layers)
            .map(|index| {
                let path = path.at(format_args!("encoder.layer.{index}"));
                CpuTextLayer::load(&path, text, config.vision.hidden_size)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embeddings: CpuTextEmbeddings::load(&path, text)?,
            layers,
            heads: config.text.head_layout().with_format(number_format(root)),
            buffers: RefCell::default(),
            pool: BufferPool::default(),
        })
    }

    /// Encodes `questions` with cross-attention to `images`. Both are in the order of `layout`.
    ///
    /// # Errors
    /// [`TchError`] if features, keys or values of an image are missing.
    pub(crate) fn forward(
        &self,
        questions: &[&[i64]],
        images: &mut CpuImageStates<'_>,
        layout: &BatchLayout,
    ) -> Result<CpuTextStates, TchError> {
        let hidden = self.heads.width();
        let mut token_ranges = Vec::with_capacity(questions.len());
        let mut tokens = 0;
        for question in questions {
            token_ranges.push(tokens..tokens + question.len());
            tokens += question.len();
        }
        let mut states = self.pool.take(tokens * hidden);
        let ids = questions.iter().flat_map(|question| question.iter().copied().zip(0..));
        self.embeddings.forward(ids, &mut states);
        let (buffers, queries) = &mut *self.buffers.borrow_mut();
        let queries = queries.take(tokens * hidden);
        for (number, layer) in self.layers.iter().enumerate() {
            self.self_attend(layer, &token_ranges, &mut states, buffers);
            layer.query.forward(&states, queries, Epilogue::Store);
            let Buffers { wide, context, packed, scores, .. } = &mut *buffers;
            let context = context.take(tokens * hidden);
            for (image, source, rows) in images_with_rows(layout) {
                let tokens = tokens_of(&token_ranges, rows);
                let (Some(queries), Some(context)) = (
                    queries.get(tokens.start * hidden..tokens.end * hidden),
                    context.get_mut(tokens.start * hidden..tokens.end * hidden),
                ) else {
                    continue;
                };
                let count = images.tokens();
                let key_values = images.key_values(
                    (image, source),
                    number,
                    &layer.key_value,
                    self.heads,
                    [&mut *wide, &mut *packed],
                )?;
                let queries = MatrixRows { data: queries, stride: hidden };
                self.heads.attend(queries, key_values, count, context, scores);
            }
            layer.finish(context, &mut states, wide);
        }
        Ok(CpuTextStates { states, token_ranges, hidden })
    }

    /// Adds the self-attention of each question to its `states`.
    fn self_attend(
        &self,
        layer: &CpuTextLayer,
        token_ranges: &[Range<usize>],
        states: &mut [f32],
        buffers: &mut Buffers,
    ) {
        let Buffers { wide, context, packed, scores, .. } = buffers;
        let (heads, hidden) = (self.heads, self.heads.width());
        let qkv = wide.take(3 * states.len());
        layer.qkv.forward(states, qkv, Epilogue::Store);
        let context = context.take(states.len());
        for range in token_ranges {
            let (Some(qkv), Some(context)) = (
                qkv.get(3 * hidden * range.start..3 * hidden * range.end),
                context.get_mut(hidden * range.start..hidden * range.end),
            ) else {
                continue;
            };
            let qkv = MatrixRows { data: qkv, stride: 3 * hidden };
            let packed = packed.take(heads.packed_len(range.len()));
            heads.pack(qkv.skip_columns(hidden), qkv.skip_columns(2 * hidden), range.len(), packed);
            heads.attend(qkv, packed, range.len(), context, scores);
        }
        layer.finish_self_attention(context, states);
    }
}

impl CpuTextStates {
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

/// Returns the images of `layout` by position, each with its source and the rows of its questions.
fn images_with_rows(
    layout: &BatchLayout,
) -> impl Iterator<Item = (usize, crate::batch::layout::KvSource, Range<usize>)> + '_ {
    layout.groups.iter().flat_map(|group| {
        let [first_image, first_row, questions] =
            [group.first_image, group.first_row, group.questions].map(size);
        group.of(&layout.sources).iter().enumerate().map(move |(number, &source)| {
            let first = first_row + number * questions;
            (first_image + number, source, first..first + questions)
        })
    })
}

/// Returns the tokens of `rows`, which are consecutive.
fn tokens_of(token_ranges: &[Range<usize>], rows: Range<usize>) -> Range<usize> {
    let rows = token_ranges.get(rows).unwrap_or_default();
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => 0..0,
    }
}
