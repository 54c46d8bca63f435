//! Answers to questions (`BlipForQuestionAnswering` of the reference): a question encoder that reads the image, and a
//! decoder that reads the question.

use tch::{Device, Kind};

use crate::{
    answer_decoder::AnswerDecoder,
    answer_loop::{LiveRow, Stepper, Stop, decode},
    batch::{RowError, RowSink},
    checkpoint::Checkpoint,
    config::BlipConfig,
    device_graphs::DeviceGraphs,
    encoded_batch::EncodedBatch,
    error::{LoadError, ModelError},
    question_encoder::QuestionEncoder,
    task::RowTask,
    weights::Scope,
};

#[derive(Debug)]
pub(crate) struct QuestionAnswering {
    pub(crate) questions: QuestionEncoder,
    pub(crate) decoder: AnswerDecoder,
}

impl QuestionAnswering {
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        root: &Scope<'_>,
        device: Device,
        kind: Kind,
    ) -> Result<Self, LoadError> {
        let config = checkpoint.config();
        let questions = QuestionEncoder::load(root, config, device, kind)?;
        let decoder =
            AnswerDecoder::load(checkpoint.weights(), root, config, config.text.hidden_size, device)?;
        Ok(Self { questions, decoder })
    }

    /// Answers the rows of a batch.
    pub(crate) fn run(
        &self,
        mut batch: EncodedBatch<'_>,
        stop: Stop,
        config: &BlipConfig,
        graphs: &mut DeviceGraphs,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let token_ids: Vec<&[i64]> = batch.folded().map(|(_, row)| row.token_ids).collect();
        let lengths: Vec<i64> = token_ids.iter().map(|ids| ids.len() as i64).collect();
        let questions = self.questions.prepare(&token_ids)?;
        let graph = graphs.encode_questions(&self.questions, &questions, &batch.features, &batch.fold)?;
        let states = match graph {
            Some(states) => states,
            None => self.questions.forward(&questions, &batch.features, &batch.fold)?,
        };
        let text = batch.stopwatch.lap();

        let live: Vec<LiveRow<'_>> = batch
            .folded()
            .map(|(row, input)| {
                let reused = batch.image_reused(row);
                match input.task {
                    RowTask::Generate(generation) if generation.is_greedy() => {
                        let limit = stop.limit(generation.max_new_tokens, 0);
                        LiveRow::new(row, &[], limit, generation.report_tokens, reused)
                    }
                    other => {
                        rows.finish(row, Err(RowError::Unsupported { task: other.name() }));
                        LiveRow::done(row)
                    }
                }
            })
            .collect();
        let decoder = &self.decoder;
        // Captured steps have room for the checkpoint's own number of tokens.
        let fits = live.iter().all(|row| row.max_steps() <= stop.max_new_tokens);
        let graph = match fits {
            true => graphs.start_decoding(decoder, config, stop.max_new_tokens, &states, &lengths)?,
            false => None,
        };
        let stepper = match graph {
            Some(graph) => Stepper::Captured(graph),
            None => Stepper::Plain {
                decoder,
                state: decoder.start(&states, questions.padding)?,
                device: batch.device,
            },
        };
        let steps = decode(stepper, live, stop, [batch.vision, text], &batch.stopwatch, rows)?;
        rows.decode_steps(steps);
        Ok(())
    }
}
