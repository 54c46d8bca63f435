//! What answers took and came from, recorded for each of them: the handles are looked up once.

use metrics::{Counter, Histogram, counter, histogram};

use super::table::{FEATURES, STAGE, TOKENS};
use crate::{intake::Cost, proto::Timing, reply::Reply};

/// Records answers.
pub struct AnswerMeters {
    stages: [Histogram; 9],
    tokens: Counter,
    encoder: Counter,
    cache: Counter,
}

impl std::fmt::Debug for AnswerMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerMeters").finish_non_exhaustive()
    }
}

impl AnswerMeters {
    /// Records by the recorder that is installed now.
    #[must_use]
    pub fn new() -> Self {
        let stages = [
            "fetch",
            "preprocess",
            "image_decode",
            "image_scale",
            "queue",
            "vision",
            "text",
            "decode",
            "total",
        ];
        Self {
            stages: stages.map(|stage| histogram!(STAGE, "stage" => stage)),
            tokens: counter!(TOKENS),
            encoder: counter!(FEATURES, "source" => "encoder"),
            cache: counter!(FEATURES, "source" => "cache"),
        }
    }

    /// Records what a reply cost, and making its image ready.
    pub fn observe(&self, reply: &Reply, cost: Cost) {
        let Some((timing, tokens)) = reply.cost() else { return };
        let Cost { fetch, preprocess, image_decode, image_scale } = cost;
        let image = [fetch, preprocess, image_decode, image_scale].map(|took| took.as_secs_f64());
        let Timing { queue_ms, vision_ms, text_ms, decode_ms, total_ms, .. } = *timing;
        let pair = [queue_ms, vision_ms, text_ms, decode_ms, total_ms].map(|milliseconds| milliseconds / 1e3);
        for (histogram, seconds) in self.stages.iter().zip(image.into_iter().chain(pair)) {
            histogram.record(seconds);
        }
        if timing.answer_reused {
            // Nothing was written for it, and its image's features were not asked for.
            return;
        }
        self.tokens.increment(tokens as u64);
        let features = if timing.image_reused { &self.cache } else { &self.encoder };
        features.increment(1);
    }
}

impl Default for AnswerMeters {
    fn default() -> Self {
        Self::new()
    }
}
