//! Answers to questions (`BlipForQuestionAnswering` of the reference): a question encoder that reads the image, and a
//! decoder that reads the question.

use tch::{Device, Kind, TchError};

use crate::{
    batch::rows::RowSink,
    cache::{batch_key_values::BatchKeyValues, cross_attention::KeyValueCache},
    checkpoint::{Checkpoint, config::BlipConfig},
    cpu::{SliceAnswering, image_states::Images},
    cuda_graphs::DeviceGraphs,
    decoder::{AnswerDecoder, vocabulary_layer::vocabulary},
    device::stage_timer::Stage,
    encode::{encoded_batch::EncodedBatch, image_cache::KeyValues},
    error::{LoadError, ModelError},
    generation::{
        greedy::{Stepper, decode},
        stopping_criteria::Stop,
    },
    heads::decoding_plan::DecodingPlan,
    layers::weight_path::Scope,
    text::{encoder::QuestionEncoder, encoder_states::DecoderMemory, image_states::ImageMemory},
};

#[derive(Debug)]
pub(crate) struct QuestionAnswering {
    pub(crate) questions: QuestionEncoder,
    pub(crate) decoder: AnswerDecoder,
    /// Both on slices, for questions and their plain answers.
    slices: Option<SliceAnswering>,
}

impl QuestionAnswering {
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        root: &Scope<'_>,
        device: Device,
        kind: Kind,
        own_kernels: bool,
    ) -> Result<Self, LoadError> {
        let config = checkpoint.config();
        let questions = QuestionEncoder::load(root, config, device, kind)?;
        let decoder =
            AnswerDecoder::load(checkpoint.weights(), root, config, config.text.hidden_size, device)?;
        let slices = own_kernels.then(|| {
            let vocabulary = vocabulary(checkpoint.weights(), root, config, decoder.word())?;
            SliceAnswering::load(root, config, &vocabulary)
        });
        Ok(Self { questions, decoder, slices: slices.transpose()? })
    }

    /// A cache of so many bytes for the keys and values of images of `tokens`.
    pub(crate) fn key_value_cache(
        &self,
        bytes: usize,
        tokens: i64,
        device: Device,
        kind: Kind,
    ) -> Result<KeyValueCache, TchError> {
        match self.questions.key_values(tokens) {
            Some((shape, price)) => KeyValueCache::new(bytes, shape, price, device, kind),
            None => KeyValueCache::none(),
        }
    }

    /// Answers the rows of a batch.
    pub(crate) fn run(
        &self,
        batch: EncodedBatch<'_>,
        stop: Stop,
        config: &BlipConfig,
        graphs: &mut DeviceGraphs,
        key_values: KeyValues<'_>,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        match (&self.slices, key_values) {
            (Some(slices), KeyValues::Numbers(mut own)) => {
                self.run_on_slices(slices, batch, stop, &mut own, config.vision.tokens(), rows)
            }
            (_, KeyValues::Slots(cache)) => self.run_on_tensors(batch, stop, config, graphs, cache, rows),
            (None, KeyValues::Numbers(_)) => {
                self.run_on_tensors(batch, stop, config, graphs, &mut KeyValueCache::none()?, rows)
            }
        }
    }

    /// On slices, and on tensors what slices are not for.
    fn run_on_slices(
        &self,
        slices: &SliceAnswering,
        mut batch: EncodedBatch<'_>,
        stop: Stop,
        key_values: &mut BatchKeyValues,
        tokens_of_image: i64,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let token_ids: Vec<&[i64]> = batch.folded().map(|(_, row)| row.token_ids).collect();
        let mut images = Images::new(&batch.features, key_values, tokens_of_image);
        let states = slices.questions.forward(&token_ids, &mut images, &batch.fold)?;
        key_values.settle();
        rows.key_values(batch.fold.kept_images(), batch.fold.images.len());
        batch.stopwatch.lap(Stage::Text);

        let mut plan = DecodingPlan::new(&batch, |_| &[], stop, rows);
        let mut steps = 0;
        if !plan.greedy.is_empty() {
            let greedy = std::mem::take(&mut plan.greedy);
            let state = slices.decoder.start(&states, &plan.greedy_places);
            let stepper = Stepper::Slices { decoder: &slices.decoder, state };
            steps += decode(stepper, greedy, stop, &batch.stopwatch, rows)?;
        }
        if plan.has_others() {
            let memory = states.to_memory()?;
            steps += plan.decode_others(&self.decoder, &memory, stop, &batch, rows)?;
        }
        rows.decode_steps(steps);
        Ok(())
    }

    fn run_on_tensors(
        &self,
        mut batch: EncodedBatch<'_>,
        stop: Stop,
        config: &BlipConfig,
        graphs: &mut DeviceGraphs,
        key_values: &mut KeyValueCache,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let token_ids: Vec<&[i64]> = batch.folded().map(|(_, row)| row.token_ids).collect();
        let lengths: Vec<i64> = token_ids.iter().map(|ids| ids.len() as i64).collect();
        let questions = self.questions.prepare(&token_ids)?;
        let features = batch.features.gather()?;
        let graph = graphs.encode_questions(&self.questions, &questions, &features, &batch.fold)?;
        let states = match graph {
            Some(states) => {
                // A graph reads the features whatever is kept.
                rows.key_values(0, batch.fold.images.len());
                states
            }
            None => {
                let images = ImageMemory::new(&features, key_values, &batch.fold)?;
                let states = self.questions.forward(&questions, images, &batch.fold)?;
                key_values.settle(&batch.fold);
                rows.key_values(batch.fold.kept_images(), batch.fold.images.len());
                states
            }
        };
        batch.stopwatch.lap(Stage::Text);

        let mut plan = DecodingPlan::new(&batch, |_| &[], stop, rows);
        let memory = DecoderMemory { states, padding: questions.padding };
        let mut steps = 0;
        if !plan.greedy.is_empty() {
            let greedy = std::mem::take(&mut plan.greedy);
            let memory = memory.select(&plan.greedy_places)?;
            let lengths: Vec<i64> =
                plan.greedy_places.iter().filter_map(|&place| lengths.get(place as usize).copied()).collect();
            let decoder = &self.decoder;
            // Captured steps have room for the checkpoint's own number of tokens.
            let fits = greedy.iter().all(|row| row.max_steps() <= stop.max_new_tokens);
            let graph = match fits {
                true => {
                    graphs.start_decoding(decoder, config, stop.max_new_tokens, &memory.states, &lengths)?
                }
                false => None,
            };
            let stepper = match graph {
                Some(graph) => Stepper::Captured(graph),
                None => Stepper::Plain { decoder, state: decoder.start(&memory.states, memory.padding)? },
            };
            steps += decode(stepper, greedy, stop, &batch.stopwatch, rows)?;
        }
        steps += plan.decode_others(&self.decoder, &memory, stop, &batch, rows)?;
        rows.decode_steps(steps);
        Ok(())
    }
}
