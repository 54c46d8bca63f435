//! The model's stages as CUDA graphs, for batches so small that launching kernels would cost more than running them.
//!
//! Each graph has fixed shapes; a batch is put into the smallest that holds it, and what the batch leaves empty is
//! computed along and thrown away. Rows never see one another, so that changes no answer. Larger batches, and machines
//! without graphs, run kernel by kernel.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use cuda::{CudaError, CudaStreams, Graph};
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    answer_decoder::{AnswerDecoder, Choice},
    attention::lowest,
    config::BlipConfig,
    decode_buffers::DecodeBuffers,
    fold::Fold,
    image_memory::ImageMemory,
    question_batch::QuestionBatch,
    question_encoder::QuestionEncoder,
    vision::VisionEncoder,
};

/// Above these sizes a stage keeps the device busy by itself.
const MAX_VISION_IMAGES: i64 = 8;
const MAX_QUESTION_ROWS: i64 = 16;
const MAX_DECODE_ROWS: i64 = 1024;
/// Questions longer than this are rare; each length has graphs of its own.
const MAX_QUESTION_TOKENS: i64 = 40;
const QUESTION_TOKENS_STEP: i64 = 8;

/// The graphs of one model, captured when they are first needed.
#[derive(Debug, Default)]
pub(crate) struct DeviceGraphs {
    door: Option<(CudaStreams, usize)>,
    vision: HashMap<i64, VisionGraph>,
    questions: HashMap<[i64; 2], QuestionGraph>,
    decode: HashMap<[i64; 2], DecodeGraph>,
}

impl DeviceGraphs {
    /// Graphs for a model on `device`; none unless they are `wanted`, on a CUDA device, and in this program.
    pub(crate) fn new(device: Device, wanted: bool) -> Self {
        let Device::Cuda(index) = device else { return Self::default() };
        if !wanted {
            return Self::default();
        }
        match CudaStreams::open() {
            Ok(graphs) => Self { door: Some((graphs, index)), ..Self::default() },
            Err(error) => {
                tracing::warn!(%error, "running without CUDA graphs: small batches will be slower");
                Self::default()
            }
        }
    }

    /// The features of a few images `[images, side, side, 3]`; `None` if there is no graph for them.
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
        let graph = kept(&mut self.door, &mut self.vision, bucket, |door, device| {
            VisionGraph::capture(door, device, vision, pixels, bucket)
        });
        graph.map(|graph| graph.run(pixels)).transpose()
    }

    /// The states of a few questions, each on an image of its own; `None` if there is no graph for them.
    pub(crate) fn encode_questions(
        &mut self,
        encoder: &QuestionEncoder,
        batch: &QuestionBatch,
        images: &Tensor,
        fold: &Fold,
    ) -> Result<Option<Tensor>, TchError> {
        let (rows, longest) = batch.ids.size2()?;
        let one_question_each = fold.images.len() == fold.rows.len();
        if rows > MAX_QUESTION_ROWS || longest > MAX_QUESTION_TOKENS || !one_question_each {
            return Ok(None);
        }
        let key = [power_of_two(rows), round_up(longest)];
        let graph = kept(&mut self.door, &mut self.questions, key, |door, device| {
            QuestionGraph::capture(door, device, encoder, images, key)
        });
        graph.map(|graph| graph.run(batch, images)).transpose()
    }

    /// A decoder that holds the questions `states` `[rows, longest, hidden]`; `None` if there is no graph for them.
    pub(crate) fn start_decoding(
        &mut self,
        decoder: &AnswerDecoder,
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
        let graph = kept(&mut self.door, &mut self.decode, key, |door, device| {
            DecodeGraph::capture(
                door,
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

/// The graph for `key`, captured the first time. If that fails, for lack of memory for instance, there are no graphs
/// any more.
fn kept<'a, K: Eq + Hash, G>(
    door: &mut Option<(CudaStreams, usize)>,
    graphs: &'a mut HashMap<K, G>,
    key: K,
    capture: impl FnOnce(CudaStreams, usize) -> Result<G, CudaError>,
) -> Option<&'a mut G> {
    let (opened, device) = (*door)?;
    match graphs.entry(key) {
        Entry::Occupied(entry) => Some(entry.into_mut()),
        Entry::Vacant(entry) => match capture(opened, device) {
            Ok(graph) => Some(entry.insert(graph)),
            Err(error) => {
                let graph = std::any::type_name::<G>();
                tracing::warn!(graph, %error, "a CUDA graph could not be captured: running without from now on");
                *door = None;
                None
            }
        },
    }
}

/// The smallest power of two that is not below `count`.
fn power_of_two(count: i64) -> i64 {
    (count.max(1) as u64).next_power_of_two() as i64
}

fn round_up(tokens: i64) -> i64 {
    (tokens.max(1) as u64).next_multiple_of(QUESTION_TOKENS_STEP as u64) as i64
}

#[derive(Debug)]
struct VisionGraph {
    graph: Graph,
    pixels: Tensor,
    features: Tensor,
}

impl VisionGraph {
    fn capture(
        door: CudaStreams,
        device: usize,
        vision: &VisionEncoder,
        example: &Tensor,
        images: i64,
    ) -> Result<Self, CudaError> {
        let (_, height, width, channels) = example.size4()?;
        let pixels = Tensor::f_zeros([images, height, width, channels], (Kind::Uint8, example.device()))?;
        let (graph, features) = door.capture(device, || vision.forward(&pixels))?;
        Ok(Self { graph, pixels, features })
    }

    fn run(&self, pixels: &Tensor) -> Result<Tensor, TchError> {
        let images = pixels.size4()?.0;
        self.pixels.f_narrow(0, 0, images)?.f_copy_(pixels)?;
        self.graph.launch()?;
        self.features.f_narrow(0, 0, images)
    }
}

#[derive(Debug)]
struct QuestionGraph {
    graph: Graph,
    batch: QuestionBatch,
    images: Tensor,
    states: Tensor,
}

impl QuestionGraph {
    fn capture(
        door: CudaStreams,
        device: usize,
        encoder: &QuestionEncoder,
        example: &Tensor,
        [rows, longest]: [i64; 2],
    ) -> Result<Self, CudaError> {
        let (_, tokens, hidden) = example.size3()?;
        let (kind, place) = (example.kind(), example.device());
        let zeros = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, place));
        let images = zeros(&[rows, tokens, hidden], kind)?;
        let batch = QuestionBatch {
            ids: zeros(&[rows, longest], Kind::Int64)?,
            padding: Some(zeros(&[rows, 1, 1, longest], kind)?),
            unpadding: None,
        };
        let each: Vec<usize> = (0..rows as usize).collect();
        let fold = Fold::new(&each, each.iter().copied());
        let (graph, states) =
            door.capture(device, || encoder.forward(&batch, ImageMemory::of_features(&images), &fold))?;
        Ok(Self { graph, batch, images, states })
    }

    fn run(&mut self, batch: &QuestionBatch, images: &Tensor) -> Result<Tensor, TchError> {
        let (rows, longest) = batch.ids.size2()?;
        self.images.f_narrow(0, 0, rows)?.f_copy_(images)?;
        drop(self.batch.ids.f_zero_()?);
        self.batch.ids.f_narrow(0, 0, rows)?.f_narrow(1, 0, longest)?.f_copy_(&batch.ids)?;
        if let Some(padding) = &mut self.batch.padding {
            drop(padding.f_fill_(lowest(padding.kind()))?);
            // Rows that no question fills still need a token to look at.
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

/// A captured decoder at one shape.
#[derive(Debug)]
pub(crate) struct DecodeGraph {
    buffers: DecodeBuffers,
    start: Graph,
    step: Graph,
    table: Tensor,
}

impl DecodeGraph {
    fn capture(
        door: CudaStreams,
        device: usize,
        decoder: &AnswerDecoder,
        config: &BlipConfig,
        shape: [i64; 3],
        kind: Kind,
    ) -> Result<Self, CudaError> {
        let mut buffers = DecodeBuffers::new(shape, &config.text, Device::Cuda(device), kind)?;
        let (start, ()) = door.capture(device, || buffers.start(decoder))?;
        let (step, table) = door.capture(device, || buffers.step(decoder))?;
        Ok(Self { buffers, start, step, table })
    }

    /// Feeds each row its last token; returns what comes next.
    pub(crate) fn step(&mut self, tokens: &[i64], step: i64) -> Result<Vec<Choice>, TchError> {
        self.buffers.set_step(tokens, step)?;
        self.step.launch()?;
        DecodeBuffers::read(&self.table, tokens.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_into_the_smallest_bucket_that_holds_it() {
        assert_eq!([0, 1, 2, 3, 5, 8, 9].map(power_of_two), [1, 1, 2, 4, 8, 8, 16]);
        assert_eq!([1, 8, 9, 40].map(round_up), [8, 8, 16, 40]);
    }

    #[test]
    fn the_cpu_has_no_graphs() {
        assert!(DeviceGraphs::new(Device::Cpu, true).door.is_none());
    }
}
