//! The stages of a model as CUDA graphs, for small batches.
//!
//! In a small batch, launching the kernels costs more than running them. A graph has fixed shapes,
//! and a batch goes into the smallest graph that holds it. Unused rows are computed and discarded.
//! Rows do not depend on each other, so results do not change. Larger batches, and machines without
//! graphs, run kernel by kernel.

pub(crate) mod decode_buffers;
pub(crate) mod recent_steps;

use std::collections::BTreeMap;

use cuda::{CaptureStream, CudaError, CudaStreams, Graph};
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::layout::BatchLayout,
    checkpoint::config::{BlipConfig, text::TextConfig, vision::VisionConfig},
    cuda_graphs::decode_buffers::DecodeBuffers,
    decoder::{TextDecoder, token_choice::TokenChoice},
    device::{torch_panics::return_torch_panics, transfer::to_device},
    layers::attention::{lowest, mask_width},
    text::{encoder::TextEncoder, image_states::ImageStates, padded_batch::PaddedBatch},
    vision::encoder::VisionEncoder,
};

/// Images of a captured pass of the vision encoder.
///
/// Above the last value of the lists below, and with more images than [`MAX_PADDED_IMAGES`], a
/// stage uses the whole device without a graph. The graph of 16 images, a full pass, saves time of
/// the host.
const IMAGES: [i64; 5] = [1, 2, 4, 8, 16];
/// The largest graph that encodes fewer images than it has room for. In a larger one, an unused
/// image would take longer than the launches that the graph saves.
const MAX_PADDED_IMAGES: i64 = 8;
/// Questions of a captured text encoder.
const QUESTION_ROWS: [i64; 5] = [1, 2, 4, 8, 16];
/// Questions of a batch whose images are copied, if there are fewer images than questions. Each
/// copy costs a projection of all image tokens. With more of them, launches cost less.
const MAX_ROWS_WITH_COPIES: usize = 8;
/// Rows of a captured decoder. Each graph holds the keys and values of its rows.
const DECODE_ROWS: [i64; 7] = [1, 2, 4, 8, 16, 64, 256];
/// Tokens of a question. Longer questions are rare.
const QUESTION_TOKENS: [i64; 2] = [16, 40];
/// Failed captures after which a model captures no further graphs.
const MAX_FAILURES: usize = 3;

/// The graphs of one model, captured when the model is loaded.
#[derive(Debug, Default)]
pub(crate) struct CudaGraphs {
    /// `None` if graphs are off, and after the captures.
    capturer: Option<Capturer>,
    /// Whether graphs are on and some are missing.
    are_incomplete: bool,
    /// By number of images.
    vision: BTreeMap<i64, VisionGraph>,
    /// By rows and tokens.
    questions: BTreeMap<[i64; 2], TextGraph>,
    /// By rows and tokens of the encoder states.
    decode: BTreeMap<[i64; 2], DecodeGraph>,
}

impl CudaGraphs {
    /// Creates the graphs of a model in `kind` on `device`. None is captured yet.
    ///
    /// There are none if `enabled` is false, the device is not a CUDA device, or CUDA graphs are
    /// unavailable.
    pub(crate) fn new(device: Device, kind: Kind, enabled: bool) -> Self {
        let Device::Cuda(index) = device else { return Self::default() };
        if !enabled {
            return Self::default();
        }
        match CudaStreams::open().and_then(|streams| streams.capture_stream(index)) {
            Ok(stream) => {
                let capturer = Capturer { stream, device, kind, failures: 0 };
                Self { capturer: Some(capturer), ..Self::default() }
            }
            Err(error) => {
                tracing::warn!(%error, "CUDA graphs disabled; small batches are slower");
                Self { are_incomplete: true, ..Self::default() }
            }
        }
    }

    /// Captures the vision encoder, for passes of up to `pass_images` images of height and width
    /// `side`.
    pub(crate) fn capture_images(&mut self, vision: &VisionEncoder, side: i64, pass_images: usize) {
        let Some(capturer) = &mut self.capturer else { return };
        for images in IMAGES.into_iter().filter(|&images| images as usize <= pass_images) {
            let graph = capturer.capture(|capturer| VisionGraph::capture(capturer, vision, [images, side]));
            self.vision.extend(graph.map(|graph| (images, graph)));
        }
    }

    /// Captures the text encoder.
    pub(crate) fn capture_texts(&mut self, encoder: &TextEncoder, config: &BlipConfig) {
        let Some(capturer) = &mut self.capturer else { return };
        for shape in shapes(&QUESTION_ROWS) {
            let graph =
                capturer.capture(|capturer| TextGraph::capture(capturer, encoder, &config.vision, shape));
            self.questions.extend(graph.map(|graph| (shape, graph)));
        }
    }

    /// Captures the decoder, for answers of up to `max_new_tokens` tokens.
    pub(crate) fn capture_decoding(
        &mut self,
        decoder: &TextDecoder,
        config: &BlipConfig,
        max_new_tokens: i64,
    ) {
        let Some(capturer) = &mut self.capturer else { return };
        for shape @ [rows, longest] in shapes(&DECODE_ROWS) {
            let graph = capturer.capture(|capturer| {
                DecodeGraph::capture(capturer, decoder, &config.text, [rows, longest, max_new_tokens])
            });
            self.decode.extend(graph.map(|graph| (shape, graph)));
        }
    }

    /// Logs the number of graphs. No graph is captured later.
    pub(crate) fn finish_captures(&mut self) {
        if let Some(capturer) = self.capturer.take() {
            let (vision, questions, decode) = (self.vision.len(), self.questions.len(), self.decode.len());
            self.are_incomplete = capturer.failures > 0;
            tracing::info!(vision, questions, decode, failures = capturer.failures, "CUDA graphs captured");
        }
    }

    /// Returns whether graphs are on and some are missing, because a capture failed.
    pub(crate) fn are_incomplete(&self) -> bool {
        self.are_incomplete
    }

    /// Returns the features of images `[images, side, side, 3]`, or `None` without a graph of this
    /// size.
    pub(crate) fn encode_images(&mut self, pixels: &Tensor) -> Result<Option<Tensor>, TchError> {
        of_pass(&self.vision, pixels.size4()?.0).map(|graph| graph.run(pixels)).transpose()
    }

    /// Returns whether a graph encodes `rows` questions about `images` images, of up to `tokens`
    /// tokens. It reads features and no cached keys and values.
    pub(crate) fn encodes_texts(&self, [rows, images, tokens]: [usize; 3]) -> bool {
        let (row_count, tokens) = (rows as i64, tokens as i64);
        let mut holding = self.questions.range([row_count, tokens]..);
        (rows == images || rows <= MAX_ROWS_WITH_COPIES) && holding.any(|(shape, _)| holds(shape, tokens))
    }

    /// Returns the states of questions, or `None` if [`Self::encodes_texts`] is false.
    ///
    /// A graph has one image for each question, so several questions about an image read copies of
    /// its features. `features` returns those of all images, `[images, tokens, hidden]`.
    pub(crate) fn encode_texts(
        &mut self,
        batch: &PaddedBatch,
        layout: &BatchLayout,
        features: impl FnOnce() -> Result<Tensor, TchError>,
    ) -> Result<Option<Tensor>, TchError> {
        let (rows, tokens) = batch.ids.size2()?;
        let has_graph = self.encodes_texts([rows as usize, layout.images.len(), tokens as usize]);
        let graph = smallest(&mut self.questions, (rows, tokens)).filter(|_| has_graph);
        let Some(graph) = graph else { return Ok(None) };
        let features = features()?;
        if layout.images.len() == layout.rows.len() {
            return graph.run(batch, &features).map(Some);
        }
        let positions = to_device(&layout.image_positions(), features.device())?;
        graph.run(batch, &features.f_index_select(0, &positions)?).map(Some)
    }

    /// Returns a graph loaded with the encoder states `[rows, longest, hidden]`, for answers of up
    /// to `max_steps` steps, or `None` without a graph of this size.
    pub(crate) fn start_decoding(
        &mut self,
        states: &Tensor,
        lengths: &[i64],
        max_steps: i64,
    ) -> Result<Option<&mut DecodeGraph>, TchError> {
        let (rows, longest, _) = states.size3()?;
        let Some(graph) = smallest(&mut self.decode, (rows, longest)) else { return Ok(None) };
        graph.buffers.load(states, lengths, max_steps)?;
        graph.start.launch()?;
        Ok(Some(graph))
    }
}

/// Returns the graph of a pass of `images` images.
fn of_pass<G>(graphs: &BTreeMap<i64, G>, images: i64) -> Option<&G> {
    let (size, graph) = graphs.range(images..).next()?;
    (*size == images || *size <= MAX_PADDED_IMAGES).then_some(graph)
}

/// Returns the shapes of texts to capture: these numbers of rows, in each length.
fn shapes(rows: &[i64]) -> impl Iterator<Item = [i64; 2]> {
    rows.iter().flat_map(|&rows| QUESTION_TOKENS.map(|tokens| [rows, tokens]))
}

/// Returns the graph with the fewest rows, and of these the one with the fewest tokens, that holds
/// `rows` rows of `tokens` tokens.
fn smallest<G>(graphs: &mut BTreeMap<[i64; 2], G>, (rows, tokens): (i64, i64)) -> Option<&mut G> {
    graphs.range_mut([rows, tokens]..).find(|(shape, _)| holds(shape, tokens)).map(|(_, graph)| graph)
}

/// Returns whether a graph of this shape, which has enough rows, holds rows of `tokens` tokens.
fn holds([_, longest]: &[i64; 2], tokens: i64) -> bool {
    *longest >= tokens
}

/// Captures the graphs of a model, on one stream.
#[derive(Debug)]
struct Capturer {
    stream: CaptureStream,
    device: Device,
    kind: Kind,
    failures: usize,
}

impl Capturer {
    /// Returns a graph. Returns `None` if the capture fails. No more graphs are captured after
    /// [`MAX_FAILURES`] failures, or after one for lack of memory: batches need the rest.
    fn capture<G>(&mut self, capture: impl FnOnce(&Self) -> Result<G, CudaError>) -> Option<G> {
        if self.failures >= MAX_FAILURES {
            return None;
        }
        return_torch_panics(|| capture(self))
            .inspect_err(|error| {
                let graph = std::any::type_name::<G>();
                let is_out_of_memory = error.to_string().contains("out of memory");
                self.failures = if is_out_of_memory { MAX_FAILURES } else { self.failures + 1 };
                tracing::warn!(graph, %error, "CUDA graph not captured; batches of its size are slower");
            })
            .ok()
    }

    /// Returns the graph of `work`, with its result.
    fn record<T>(&self, mut work: impl FnMut() -> Result<T, TchError>) -> Result<(Graph, T), CudaError> {
        // A panic would leave the capture open.
        self.stream.capture(|| return_torch_panics(&mut work))
    }

    /// Returns a tensor of zeros in the number format of the model.
    fn zeros(&self, shape: &[i64]) -> Result<Tensor, TchError> {
        Tensor::f_zeros(shape, (self.kind, self.device))
    }
}

/// The captured vision encoder with its input and output.
#[derive(Debug)]
struct VisionGraph {
    graph: Graph,
    pixels: Tensor,
    features: Tensor,
}

impl VisionGraph {
    /// Captures the encoder for `images` images of height and width `side`.
    fn capture(
        capturer: &Capturer,
        vision: &VisionEncoder,
        [images, side]: [i64; 2],
    ) -> Result<Self, CudaError> {
        let pixels = Tensor::f_zeros([images, side, side, 3], (Kind::Uint8, capturer.device))?;
        let (graph, features) = capturer.record(|| vision.forward(&pixels))?;
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
    /// Captures the encoder for `rows` questions of `longest` tokens, each with one image.
    fn capture(
        capturer: &Capturer,
        encoder: &TextEncoder,
        vision: &VisionConfig,
        [rows, longest]: [i64; 2],
    ) -> Result<Self, CudaError> {
        let images = capturer.zeros(&[rows, vision.tokens(), vision.hidden_size])?;
        let batch = PaddedBatch {
            ids: Tensor::f_zeros([rows, longest], (Kind::Int64, capturer.device))?,
            padding: Some(capturer.zeros(&[rows, 1, 1, mask_width(longest, capturer.device)])?),
            unpadding: None,
        };
        let each: Vec<usize> = (0..rows as usize).collect();
        let layout = BatchLayout::new(&each, each.iter().copied());
        let (graph, states) =
            capturer.record(|| encoder.forward(&batch, ImageStates::of_features(&images), &layout))?;
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
                Some(mask) => filled.f_copy_(&mask.f_narrow(3, 0, longest)?)?,
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
}

impl DecodeGraph {
    /// Captures start and step of the decoder for `shape`: rows, tokens of encoder states, steps.
    fn capture(
        capturer: &Capturer,
        decoder: &TextDecoder,
        config: &TextConfig,
        shape: [i64; 3],
    ) -> Result<Self, CudaError> {
        let mut buffers = DecodeBuffers::new(shape, config, capturer.device, capturer.kind)?;
        let (start, ()) = capturer.record(|| buffers.start(decoder))?;
        let (step, ()) = capturer.record(|| buffers.step(decoder))?;
        Ok(Self { buffers, start, step })
    }

    /// Feeds each row its last token. Returns the best next tokens.
    pub(crate) fn step(&mut self, tokens: &[i64], step: i64) -> Result<Vec<TokenChoice>, TchError> {
        self.buffers.choose(tokens, step, |_| Ok(self.step.launch()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_takes_the_smallest_graph_that_holds_it() {
        let mut graphs: BTreeMap<_, _> = shapes(&[1, 4]).map(|shape| (shape, shape)).collect();
        for (batch, expected) in [
            ((1, 5), Some([1, 16])),
            ((1, 17), Some([1, 40])),
            ((2, 16), Some([4, 16])),
            ((4, 40), Some([4, 40])),
            ((4, 41), None),
            ((5, 1), None),
        ] {
            assert_eq!(smallest(&mut graphs, batch).copied(), expected, "{batch:?}");
        }
    }

    #[test]
    fn pass_of_more_than_8_images_takes_a_graph_of_its_size_only() {
        let graphs: BTreeMap<_, _> = IMAGES.map(|images| (images, images)).into();
        for (images, expected) in
            [(1, Some(1)), (3, Some(4)), (5, Some(8)), (9, None), (15, None), (16, Some(16)), (17, None)]
        {
            assert_eq!(of_pass(&graphs, images).copied(), expected, "{images} images");
        }
    }

    #[test]
    fn graphs_on_the_cpu_are_disabled() {
        assert!(CudaGraphs::new(Device::Cpu, Kind::Float, true).capturer.is_none());
    }
}
