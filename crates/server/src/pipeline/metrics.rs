//! Metrics of results: the time of each stage, tokens, and where image features came from.

use metrics::{Counter, Histogram, counter, histogram};

use crate::{
    pipeline::{reply::Reply, timing::Timing},
    preprocess::prepared::PreprocessTiming,
    telemetry::metrics::table::{FEATURES, STAGE, TOKENS},
};

/// Handles of the metrics of results, looked up once.
pub struct AnswerMetrics {
    stages: [Histogram; 9],
    tokens: Counter,
    encoder: Counter,
    cache: Counter,
}

impl std::fmt::Debug for AnswerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerMetrics").finish_non_exhaustive()
    }
}

impl AnswerMetrics {
    /// Creates handles of the recorder that is installed at this time.
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

    /// Records the cost of a reply and of preprocessing its image.
    pub fn observe(&self, reply: &Reply, cost: PreprocessTiming) {
        let Some((timing, tokens)) = reply.cost() else { return };
        let PreprocessTiming { fetch, preprocess, image_decode, image_scale } = cost;
        let image = [fetch, preprocess, image_decode, image_scale].map(|took| took.as_secs_f64());
        let Timing { queue_ms, vision_ms, text_ms, decode_ms, total_ms, .. } = *timing;
        let pair = [queue_ms, vision_ms, text_ms, decode_ms, total_ms].map(|milliseconds| milliseconds / 1e3);
        for (histogram, seconds) in self.stages.iter().zip(image.into_iter().chain(pair)) {
            histogram.record(seconds);
        }
        if timing.answer_reused {
            // No token was generated, and no features were looked up.
            return;
        }
        self.tokens.increment(tokens as u64);
        let features = if timing.image_reused { &self.cache } else { &self.encoder };
        features.increment(1);
    }
}

impl Default for AnswerMetrics {
    fn default() -> Self {
        Self::new()
    }
}
