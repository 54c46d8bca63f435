//! Question answering (`BlipForQuestionAnswering` of the reference).
//!
//! The text encoder reads the question and the image. The decoder reads the encoder's states.

use tch::{Device, Kind, TchError};

use crate::{
    batch::rows::RowSink,
    cache::{batch_key_values::BatchKeyValues, cross_attention::CrossAttentionCache},
    checkpoint::{Checkpoint, config::BlipConfig},
    cpu::{CpuQuestionAnswering, image_states::CpuImageStates, text_kernels},
    cuda_graphs::CudaGraphs,
    decoder::TextDecoder,
    device::stage_timer::BatchStage,
    encode::{encoded_batch::EncodedBatch, image_cache::KeyValueAccess},
    error::{LoadError, ModelError},
    explanation::{explainer::Explainer, held_answers::HeldAnswers},
    generation::{
        decode_context::DecodeContext,
        greedy::{ActiveRow, DecodeBackend, decode},
        stopping_criteria::StoppingCriteria,
    },
    heads::decoding_plan::DecodingPlan,
    layers::weight_path::WeightPath,
    text::{encoder::TextEncoder, encoder_states::EncoderStates, image_states::ImageStates},
};

/// The head of a question-answering model.
#[derive(Debug)]
pub(crate) struct QuestionAnswering {
    pub(crate) questions: TextEncoder,
    pub(crate) decoder: TextDecoder,
    /// The CPU implementation of both networks, for questions with greedy answers.
    cpu: Option<CpuQuestionAnswering>,
}

impl QuestionAnswering {
    /// Loads `text_encoder.*` and `text_decoder.*`.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        root: &WeightPath<'_>,
        device: Device,
        kind: Kind,
    ) -> Result<Self, LoadError> {
        let config = checkpoint.config();
        let questions = TextEncoder::load(root, config, device, kind)?;
        let decoder = TextDecoder::load(checkpoint.weights(), root, config, config.text.hidden_size, device)?;
        let cpu = root.kernels().and_then(|kernels| {
            CpuQuestionAnswering::new(&questions, &decoder, config, &text_kernels(config, kernels))
        });
        Ok(Self { questions, decoder, cpu })
    }

    /// Returns a cache of `bytes` bytes for keys and values of images with `tokens` tokens.
    pub(crate) fn cross_attention_cache(
        &self,
        bytes: usize,
        tokens: i64,
        device: Device,
        kind: Kind,
    ) -> Result<CrossAttentionCache, TchError> {
        match self.questions.key_values(tokens) {
            Some((shape, admission_threshold)) => {
                let mut cache = CrossAttentionCache::new(bytes, shape, admission_threshold, device, kind)?;
                if cache.has_slots() {
                    cache.range_attention = self.questions.range_attention(tokens);
                }
                Ok(cache)
            }
            None => CrossAttentionCache::none(),
        }
    }

    /// Captures the graphs of both networks.
    pub(crate) fn prepare(&self, stopping: StoppingCriteria, config: &BlipConfig, graphs: &mut CudaGraphs) {
        graphs.capture_texts(&self.questions, config);
        graphs.capture_decoding(&self.decoder, config, stopping.max_new_tokens);
    }

    /// Answers the rows of a batch, and computes the attention maps that they request.
    pub(crate) fn run(
        &self,
        mut batch: EncodedBatch<'_>,
        stopping: StoppingCriteria,
        config: &BlipConfig,
        graphs: &mut CudaGraphs,
        key_values: KeyValueAccess<'_>,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        if !batch.rows_in_order().any(|(_, row)| row.task.explains()) {
            return self.answer(&mut batch, stopping, graphs, key_values, rows);
        }
        let mut held = HeldAnswers::new(batch.rows, rows);
        self.answer(&mut batch, stopping, graphs, key_values, &mut held)?;
        let (questions, decoder) = (&self.questions, &self.decoder);
        let explainer = Explainer { questions, decoder, stopping, grid: config.vision.grid() };
        let held = held.into_held();
        Ok(explainer.explain(&batch, held, rows)?)
    }

    /// Answers the rows of a batch.
    fn answer(
        &self,
        batch: &mut EncodedBatch<'_>,
        stopping: StoppingCriteria,
        graphs: &mut CudaGraphs,
        key_values: KeyValueAccess<'_>,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        match (&self.cpu, key_values) {
            (Some(cpu), KeyValueAccess::Buffers(mut key_values)) => {
                self.run_on_cpu_kernels(cpu, batch, stopping, &mut key_values, rows)
            }
            (_, KeyValueAccess::Slots(cache)) => self.run_on_libtorch(batch, stopping, graphs, cache, rows),
            (None, KeyValueAccess::Buffers(_)) => {
                self.run_on_libtorch(batch, stopping, graphs, &mut CrossAttentionCache::none()?, rows)
            }
        }
    }

    /// Encodes and decodes with the CPU implementation. Rows that it does not support go to
    /// LibTorch's decoder.
    fn run_on_cpu_kernels(
        &self,
        cpu: &CpuQuestionAnswering,
        batch: &mut EncodedBatch<'_>,
        stopping: StoppingCriteria,
        key_values: &mut BatchKeyValues,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let token_ids: Vec<&[i64]> = batch.rows_in_order().map(|(_, row)| row.token_ids).collect();
        let positions = 0..batch.layout.images.len();
        let mut images = CpuImageStates::new(&batch.features, positions, Some(&mut *key_values))?;
        let states = cpu.questions.forward(&token_ids, Some((&mut images, &batch.layout)))?;
        key_values.commit();
        rows.key_values(batch.layout.cached_images(), batch.layout.images.len());
        batch.timer.finish_stage(BatchStage::Text);

        let mut plan = DecodingPlan::new(batch, |_| &[], stopping, rows);
        let mut steps = 0;
        if !plan.greedy.is_empty() {
            let greedy = std::mem::take(&mut plan.greedy);
            let state = cpu.decoder.start(&states, &plan.greedy_positions);
            let backend = DecodeBackend::Cpu { decoder: &cpu.decoder, state };
            steps += decode(backend, greedy, stopping, &batch.timer, rows)?;
        }
        if plan.has_others() {
            let encoder_states = states.to_encoder_states()?;
            let context =
                DecodeContext { decoder: &self.decoder, encoder_states: &encoder_states, stopping, batch };
            steps += plan.decode_others(context, rows)?;
        }
        rows.decode_steps(steps);
        Ok(())
    }

    /// Encodes and decodes with LibTorch, or with CUDA graphs if they fit the batch.
    fn run_on_libtorch(
        &self,
        batch: &mut EncodedBatch<'_>,
        stopping: StoppingCriteria,
        graphs: &mut CudaGraphs,
        key_values: &mut CrossAttentionCache,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let token_ids: Vec<&[i64]> = batch.rows_in_order().map(|(_, row)| row.token_ids).collect();
        let lengths: Vec<i64> = token_ids.iter().map(|ids| ids.len() as i64).collect();
        let questions = self.questions.prepare(&token_ids)?;
        let graph = graphs.encode_texts(&questions, &batch.layout, || batch.features.gather())?;
        let states = match graph {
            Some(states) => {
                // A captured graph reads features, even if keys and values are cached.
                rows.key_values(0, batch.layout.images.len());
                states
            }
            None => {
                let longest = questions.ids.size2()?.1;
                let features = batch.features.gather_first(batch.layout.uncached_images())?;
                let images = ImageStates::new(&features, key_values, &batch.layout, longest)?;
                let states = self.questions.forward(&questions, images, &batch.layout)?;
                key_values.commit(&batch.layout);
                rows.key_values(batch.layout.cached_images(), batch.layout.images.len());
                states
            }
        };
        batch.timer.finish_stage(BatchStage::Text);

        let mut plan = DecodingPlan::new(batch, |_| &[], stopping, rows);
        let encoder_states = EncoderStates { states, padding: questions.padding };
        let mut steps = 0;
        if !plan.greedy.is_empty() {
            let greedy = std::mem::take(&mut plan.greedy);
            let selected = encoder_states.select(&plan.greedy_positions)?;
            let lengths: Vec<i64> = plan
                .greedy_positions
                .iter()
                .filter_map(|&position| lengths.get(position as usize).copied())
                .collect();
            let decoder = &self.decoder;
            // A captured graph has room for the checkpoint's maximum of new tokens.
            let max_steps = greedy.iter().map(ActiveRow::max_steps).max().unwrap_or(0);
            let graph = match max_steps <= stopping.max_new_tokens {
                true => graphs.start_decoding(&selected.states, &lengths, max_steps)?,
                false => None,
            };
            let backend = match graph {
                Some(graph) => DecodeBackend::CudaGraph(graph),
                None => DecodeBackend::LibTorch {
                    decoder,
                    state: decoder.start(&selected.states, selected.padding)?,
                },
            };
            steps += decode(backend, greedy, stopping, &batch.timer, rows)?;
        }
        let context =
            DecodeContext { decoder: &self.decoder, encoder_states: &encoder_states, stopping, batch };
        steps += plan.decode_others(context, rows)?;
        rows.decode_steps(steps);
        Ok(())
    }
}
