//! The stages of a model as CUDA graphs, for small batches.
//!
//! In a small batch, launching the kernels costs more than running them. A graph has fixed shapes,
//! and a batch goes into the smallest graph that holds it. Unused rows are computed and discarded.
//! Rows do not depend on each other, so results do not change. Larger batches, and machines without
//! graphs, run kernel by kernel.

pub(crate) mod decode_buffers;

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use cuda::{CudaError, CudaStreams, Graph};
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::layout::BatchLayout,
    checkpoint::config::BlipConfig,
    cuda_graphs::decode_buffers::DecodeBuffers,
    decoder::{TextDecoder, token_choice::TokenChoice},
    layers::attention::lowest,
    text::{encoder::TextEncoder, image_states::ImageStates, padded_batch::PaddedBatch},
    vision::encoder::VisionEncoder,
};

/// Images up to which the vision encoder runs as a graph.
///
/// Above this limit and the two below, a stage uses the whole device without a graph.
const MAX_VISION_IMAGES: i64 = 8;
/// Questions up to which the text encoder runs as a graph.
const MAX_QUESTION_ROWS: i64 = 16;
/// Rows up to which the decoder runs as a graph.
const MAX_DECODE_ROWS: i64 = 1024;
/// Question length, in tokens, up to which graphs are used. Longer questions are rare, and each
/// length needs separate graphs.
const MAX_QUESTION_TOKENS: i64 = 40;
/// Graphs exist for multiples of this question length, in tokens.
const QUESTION_TOKENS_STEP: i64 = 8;

/// The graphs of one model, captured on first use.
#[derive(Debug, Default)]
pub(crate) struct CudaGraphs {
    streams: Option<(CudaStreams, usize)>,
    /// By number of images.
    vision: HashMap<i64, VisionGraph>,
    /// By rows and tokens.
    questions: HashMap<[i64; 2], TextGraph>,
    /// By rows and tokens of the encoder states.
    decode: HashMap<[i64; 2], DecodeGraph>,
}

impl CudaGraphs {
    /// Creates the graphs of a model on `device`.
    ///
    /// It captures none if `enabled` is false, the device is not a CUDA device, or CUDA graphs are
    /// unavailable.
    pub(crate) fn new(device: Device, enabled: bool) -> Self {
        let Device::Cuda(index) = device else { return Self::default() };
        if !enabled {
            return Self::default();
        }
        match CudaStreams::open() {
            Ok(graphs) => Self { streams: Some((graphs, index)), ..Self::default() },
            Err(error) => {
                tracing::warn!(%error, "CUDA graphs disabled; small batches are slower");
                Self::default()
            }
        }
    }

    /// Returns the features of images `[images, side, side, 3]`, or `None` without a graph of this
    /// size.
    pub(crate) fn encode_images(
        &mut self,
        vision: &VisionEncoder,
        pixels: &Tensor,
    ) -> Result<Option<Tensor>, TchError> {
        let images = pixels.size4()?.0;
        if images > MAX_VISION_IMAGES {
            return Ok(None);
        }
        let bucket = power_of_two(images);
        let graph = cached_graph(&mut self.streams, &mut self.vision, bucket, |streams, device| {
            VisionGraph::capture(streams, device, vision, pixels, bucket)
        });
        graph.map(|graph| graph.run(pixels)).transpose()
    }

    /// Returns the states of questions with one image each, or `None` without a graph of this size.
    pub(crate) fn encode_texts(
        &mut self,
        encoder: &TextEncoder,
        batch: &PaddedBatch,
        images: &Tensor,
        layout: &BatchLayout,
    ) -> Result<Option<Tensor>, TchError> {
        let (rows, longest) = batch.ids.size2()?;
        let one_question_each = layout.images.len() == layout.rows.len();
        if rows > MAX_QUESTION_ROWS || longest > MAX_QUESTION_TOKENS || !one_question_each {
            return Ok(None);
        }
        let key = [power_of_two(rows), round_up(longest)];
        let graph = cached_graph(&mut self.streams, &mut self.questions, key, |streams, device| {
            TextGraph::capture(streams, device, encoder, images, key)
        });
        graph.map(|graph| graph.run(batch, images)).transpose()
    }

    /// Returns a graph loaded with the encoder states `[rows, longest, hidden]`, or `None` without
    /// a graph of this size.
    pub(crate) fn start_decoding(
        &mut self,
        decoder: &TextDecoder,
        config: &BlipConfig,
        max_new_tokens: i64,
        states: &Tensor,
        lengths: &[i64],
    ) -> Result<Option<&mut DecodeGraph>, TchError> {
        let (rows, longest, _) = states.size3()?;
        if rows > MAX_DECODE_ROWS || longest > MAX_QUESTION_TOKENS {
            return Ok(None);
        }
        let key @ [rows, longest] = [power_of_two(rows), round_up(longest)];
        let graph = cached_graph(&mut self.streams, &mut self.decode, key, |streams, device| {
            DecodeGraph::capture(
                streams,
                device,
                decoder,
                config,
                [rows, longest, max_new_tokens],
                states.kind(),
            )
        });
        let Some(graph) = graph else { return Ok(None) };
        graph.buffers.load(states, lengths)?;
        graph.start.launch()?;
        Ok(Some(graph))
    }
}

/// Returns the graph for `key` and captures it on first use.
///
/// If the capture fails, for example for lack of memory, the model uses no further graphs.
fn cached_graph<'a, K: Eq + Hash, G>(
    streams: &mut Option<(CudaStreams, usize)>,
    graphs: &'a mut HashMap<K, G>,
    key: K,
    capture: impl FnOnce(CudaStreams, usize) -> Result<G, CudaError>,
) -> Option<&'a mut G> {
    let (opened, device) = (*streams)?;
    match graphs.entry(key) {
        Entry::Occupied(entry) => Some(entry.into_mut()),
        Entry::Vacant(entry) => match capture(opened, device) {
            Ok(graph) => Some(entry.insert(graph)),
            Err(error) => {
                let graph = std::any::type_name::<G>();
                tracing::warn!(graph, %error, "CUDA graph capture failed; the model runs without graphs");
                *streams = None;
                None
            }
        },
    }
}

/// Returns the smallest power of two that is at least `count`.
fn power_of_two(count: i64) -> i64 {
    (count.max(1) as u64).next_power_of_two() as i64
}

/// Returns `tokens` rounded up to a multiple of [`QUESTION_TOKENS_STEP`].
fn round_up(tokens: i64) -> i64 {
    (tokens.max(1) as u64).next_multiple_of(QUESTION_TOKENS_STEP as u64) as i64
}

/// The captured vision encoder with its input and output.
#[derive(Debug)]
struct VisionGraph {
    graph: Graph,
    pixels: Tensor,
    features: Tensor,
}

impl VisionGraph {
    /// Captures the encoder for `images` images of the size of `example`.
    fn capture(
        streams: CudaStreams,
        device: usize,
        vision: &VisionEncoder,
        example: &Tensor,
        images: i64,
    ) -> Result<Self, CudaError> {
        let (_, height, width, channels) = example.size4()?;
        let pixels = Tensor::f_zeros([images, height, width, channels], (Kind::Uint8, example.device()))?;
        let (graph, features) = streams.capture(device, || vision.forward(&pixels))?;
        Ok(Self { graph, pixels, features })
    }

    /// Copies `pixels` to the input, launches the graph and returns the features of these images.
    fn run(&self, pixels: &Tensor) -> Result<Tensor, TchError> {
        let images = pixels.size4()?.0;
        self.pixels.f_narrow(0, 0, images)?.f_copy_(pixels)?;
        self.graph.launch()?;
        self.features.f_narrow(0, 0, images)
    }
}

/// The captured text encoder with its inputs and output.
#[derive(Debug)]
struct TextGraph {
    graph: Graph,
    batch: PaddedBatch,
    images: Tensor,
    states: Tensor,
}

impl TextGraph {
    /// Captures the encoder for `rows` questions of `longest` tokens, with images of the shape of
    /// `example`.
    fn capture(
        streams: CudaStreams,
        device: usize,
        encoder: &TextEncoder,
        example: &Tensor,
        [rows, longest]: [i64; 2],
    ) -> Result<Self, CudaError> {
        let (_, tokens, hidden) = example.size3()?;
        let (kind, tensor_device) = (example.kind(), example.device());
        let zeros = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, tensor_device));
        let images = zeros(&[rows, tokens, hidden], kind)?;
        let batch = PaddedBatch {
            ids: zeros(&[rows, longest], Kind::Int64)?,
            padding: Some(zeros(&[rows, 1, 1, longest], kind)?),
            unpadding: None,
        };
        let each: Vec<usize> = (0..rows as usize).collect();
        let layout = BatchLayout::new(&each, each.iter().copied());
        let (graph, states) = streams
            .capture(device, || encoder.forward(&batch, ImageStates::of_features(&images), &layout))?;
        Ok(Self { graph, batch, images, states })
    }

    /// Copies the questions and features to the inputs, launches the graph and returns `[rows,
    /// longest, hidden]`.
    fn run(&mut self, batch: &PaddedBatch, images: &Tensor) -> Result<Tensor, TchError> {
        let (rows, longest) = batch.ids.size2()?;
        self.images.f_narrow(0, 0, rows)?.f_copy_(images)?;
        drop(self.batch.ids.f_zero_()?);
        self.batch.ids.f_narrow(0, 0, rows)?.f_narrow(1, 0, longest)?.f_copy_(&batch.ids)?;
        if let Some(padding) = &mut self.batch.padding {
            drop(padding.f_fill_(lowest(padding.kind()))?);
            // Attention needs a visible token, in unused rows, too.
            drop(padding.f_narrow(3, 0, 1)?.f_zero_()?);
            let mut filled = padding.f_narrow(0, 0, rows)?.f_narrow(3, 0, longest)?;
            match &batch.padding {
                Some(mask) => filled.f_copy_(mask)?,
                None => filled.f_zero_().map(drop)?,
            }
        }
        self.graph.launch()?;
        self.states.f_narrow(0, 0, rows)?.f_narrow(1, 0, longest)
    }
}

/// A captured decoder for one shape.
#[derive(Debug)]
pub(crate) struct DecodeGraph {
    buffers: DecodeBuffers,
    start: Graph,
    step: Graph,
    table: Tensor,
}

impl DecodeGraph {
    /// Captures start and step of the decoder for `shape`: rows, tokens of encoder states, steps.
    fn capture(
        streams: CudaStreams,
        device: usize,
        decoder: &TextDecoder,
        config: &BlipConfig,
        shape: [i64; 3],
        kind: Kind,
    ) -> Result<Self, CudaError> {
        let mut buffers = DecodeBuffers::new(shape, &config.text, Device::Cuda(device), kind)?;
        let (start, ()) = streams.capture(device, || buffers.start(decoder))?;
        let (step, table) = streams.capture(device, || buffers.step(decoder))?;
        Ok(Self { buffers, start, step, table })
    }

    /// Feeds each row its last token. Returns the best next tokens.
    pub(crate) fn step(&mut self, tokens: &[i64], step: i64) -> Result<Vec<TokenChoice>, TchError> {
        self.buffers.set_step(tokens, step)?;
        self.step.launch()?;
        DecodeBuffers::read(&self.table, tokens.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_size_is_rounded_up_to_the_smallest_bucket() {
        assert_eq!([0, 1, 2, 3, 5, 8, 9].map(power_of_two), [1, 1, 2, 4, 8, 8, 16]);
        assert_eq!([1, 8, 9, 40].map(round_up), [8, 8, 16, 40]);
    }

    #[test]
    fn graphs_on_the_cpu_are_disabled() {
        assert!(CudaGraphs::new(Device::Cpu, true).streams.is_none());
    }
}
