//! The timing of one result, as responses report it.

use std::time::Duration;

use scheduler::Completion;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::{engine::payload::EngineOutput, preprocess::prepared::PreprocessTiming};

/// The time that each stage of one result took, in milliseconds of wall time. Work that several
/// items share is charged in full to each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Timing {
    /// Fetching the image by its URL.
    pub fetch_ms: f64,
    /// Decoding the image file and scaling it to the size of the model.
    pub preprocess_ms: f64,
    /// From admission to the start of the batch.
    pub queue_ms: f64,
    /// The vision encoder, or 0 if the features of the image were cached.
    pub vision_ms: f64,
    /// The text encoder.
    pub text_ms: f64,
    /// Generating the text, token by token.
    pub decode_ms: f64,
    /// From the arrival of the whole request to this result.
    pub total_ms: f64,
    /// Distinct images in the batch.
    pub batch_images: u32,
    /// Items in the batch.
    pub batch_questions: u32,
    /// Whether the features of the image came from the cache.
    pub image_reused: bool,
    /// Whether the result was computed once for this and an identical item in flight.
    pub answer_shared: bool,
    /// Whether the result came from the answer cache. The times of stages that were skipped are 0.
    pub answer_reused: bool,
    /// Tokens of the text of the item, special tokens included. Responses of OpenAI's API have it.
    #[serde(skip)]
    #[schema(ignore)]
    pub text_tokens: u32,
}

impl Timing {
    /// Returns the timing of a result that was computed for a request that arrived at `arrived`.
    #[must_use]
    pub fn for_computed(done: &Completion<EngineOutput>, image: PreprocessTiming, arrived: Instant) -> Self {
        let row = &done.answer.answer;
        Self {
            queue_ms: milliseconds(done.queue),
            vision_ms: milliseconds(row.vision),
            text_ms: milliseconds(row.text),
            decode_ms: milliseconds(row.decode),
            batch_images: done.batch_images,
            batch_questions: done.batch_questions,
            image_reused: row.image_reused,
            answer_shared: done.is_shared,
            ..Self::preprocessing(image, arrived)
        }
    }

    /// Returns the timing of a result from the answer cache.
    #[must_use]
    pub fn for_cached(image: PreprocessTiming, arrived: Instant) -> Self {
        Self { answer_reused: true, ..Self::preprocessing(image, arrived) }
    }

    fn preprocessing(image: PreprocessTiming, arrived: Instant) -> Self {
        Self {
            fetch_ms: milliseconds(image.fetch),
            preprocess_ms: milliseconds(image.preprocess),
            total_ms: milliseconds(arrived.elapsed()),
            ..Self::default()
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cached_answer_costs_only_its_image() {
        let arrived = Instant::now();
        let image = PreprocessTiming {
            fetch: Duration::from_millis(4),
            preprocess: Duration::from_millis(2),
            ..PreprocessTiming::default()
        };
        tokio::time::advance(Duration::from_millis(7)).await;
        let expected = Timing {
            fetch_ms: 4.0,
            preprocess_ms: 2.0,
            total_ms: 7.0,
            answer_reused: true,
            ..Timing::default()
        };
        assert_eq!(Timing::for_cached(image, arrived), expected);
    }
}
