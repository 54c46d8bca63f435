//! Metrics of the caches: image features, decoded pixels and answers.
//!
//! A gauge is the sum over all caches of a kind. When the handle of a cache is dropped, its part is
//! subtracted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, Gauge, counter, gauge};

use crate::telemetry::metrics::table::{
    ANSWER_LOOKUPS, ANSWERS, ANSWERS_BYTES, FEATURES_BYTES, FEATURES_EVICTED, KEY_VALUES, PIXELS,
    PIXELS_BYTES,
};

/// Metrics of one feature cache, which belongs to one engine or is shared by several.
pub struct FeatureCacheMetrics {
    bytes: AtomicU64,
    total_bytes: Gauge,
    evictions: Counter,
    key_value_hits: Counter,
    key_value_misses: Counter,
}

impl std::fmt::Debug for FeatureCacheMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FeatureCacheMetrics").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl FeatureCacheMetrics {
    /// Creates the metrics of an empty cache, with the currently installed recorder.
    #[must_use]
    pub fn new() -> Self {
        let evictions = counter!(FEATURES_EVICTED);
        // The counter is exported before the first eviction.
        evictions.increment(0);
        Self {
            bytes: AtomicU64::new(0),
            total_bytes: gauge!(FEATURES_BYTES),
            evictions,
            key_value_hits: counter!(KEY_VALUES, "source" => "cache"),
            key_value_misses: counter!(KEY_VALUES, "source" => "features"),
        }
    }

    /// Records that the features of an image were stored.
    pub fn record_insert(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.total_bytes.increment(bytes as f64);
    }

    /// Records a batch of `images`, of which `cached` had cached cross-attention keys and values.
    pub fn record_key_values(&self, cached: usize, images: usize) {
        self.key_value_hits.increment(cached as u64);
        self.key_value_misses.increment(images.saturating_sub(cached) as u64);
    }

    /// Records that the features of an image were evicted.
    pub fn record_eviction(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.total_bytes.decrement(bytes as f64);
        self.evictions.increment(1);
    }
}

impl Default for FeatureCacheMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for FeatureCacheMetrics {
    fn drop(&mut self) {
        self.total_bytes.decrement(*self.bytes.get_mut() as f64);
    }
}

/// Metrics of the pixel cache of one model.
pub struct PixelCacheMetrics {
    bytes: AtomicU64,
    total_bytes: Gauge,
    hits: Counter,
    decoded: Counter,
}

impl std::fmt::Debug for PixelCacheMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PixelCacheMetrics").finish_non_exhaustive()
    }
}

impl PixelCacheMetrics {
    /// Creates the metrics of an empty cache, with the currently installed recorder.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            total_bytes: gauge!(PIXELS_BYTES),
            hits: counter!(PIXELS, "source" => "cache"),
            decoded: counter!(PIXELS, "source" => "decoder"),
        }
    }

    /// Records an image whose pixels were cached.
    pub fn record_hit(&self) {
        self.hits.increment(1);
    }

    /// Records a decoded image, after which the cache holds `bytes`.
    pub fn record_decoded(&self, bytes: u64) {
        self.decoded.increment(1);
        update_gauge(&self.bytes, bytes, &self.total_bytes);
    }
}

impl Default for PixelCacheMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PixelCacheMetrics {
    fn drop(&mut self) {
        self.total_bytes.decrement(*self.bytes.get_mut() as f64);
    }
}

/// Metrics of the answer cache of one model.
pub struct AnswerCacheMetrics {
    bytes: AtomicU64,
    entries: AtomicU64,
    total_bytes: Gauge,
    total_entries: Gauge,
    hits: Counter,
    misses: Counter,
}

impl std::fmt::Debug for AnswerCacheMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerCacheMetrics").finish_non_exhaustive()
    }
}

impl AnswerCacheMetrics {
    /// Creates the metrics of an empty cache, with the currently installed recorder.
    #[must_use]
    pub fn new(model: &Arc<str>) -> Self {
        let lookups = |result: &'static str| {
            let counter = counter!(ANSWER_LOOKUPS, "model" => Arc::clone(model), "result" => result);
            // The counter is exported before the first lookup.
            counter.increment(0);
            counter
        };
        Self {
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            total_bytes: gauge!(ANSWERS_BYTES),
            total_entries: gauge!(ANSWERS),
            hits: lookups("hit"),
            misses: lookups("miss"),
        }
    }

    /// Records a lookup.
    pub fn record_lookup(&self, is_hit: bool) {
        let result = if is_hit { &self.hits } else { &self.misses };
        result.increment(1);
    }

    /// Sets the current size of the cache.
    pub fn set_size(&self, bytes: u64, answers: usize) {
        update_gauge(&self.bytes, bytes, &self.total_bytes);
        update_gauge(&self.entries, answers as u64, &self.total_entries);
    }
}

impl Drop for AnswerCacheMetrics {
    fn drop(&mut self) {
        self.set_size(0, 0);
    }
}

/// Changes `value` to `now`, and `total` by the same difference.
fn update_gauge(value: &AtomicU64, now: u64, total: &Gauge) {
    let before = value.swap(now, Ordering::Relaxed);
    total.increment(now as f64 - before as f64);
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn feature_bytes_are_summed_over_existing_caches() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (first, second) = metrics::with_local_recorder(&recorder, || {
            (FeatureCacheMetrics::new(), FeatureCacheMetrics::new())
        });
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        assert!(shown("blip_image_features_evicted_total 0"));
        first.record_insert(100);
        first.record_insert(100);
        second.record_insert(100);
        second.record_eviction(100);
        second.record_insert(100);
        assert!(shown("blip_image_features_bytes 300") && shown("blip_image_features_evicted_total 1"));
        drop(first);
        assert!(shown("blip_image_features_bytes 100"));
    }

    #[test]
    fn images_are_counted_by_the_source_of_keys_and_values() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = metrics::with_local_recorder(&recorder, FeatureCacheMetrics::new);
        metrics.record_key_values(2, 5);
        metrics.record_key_values(1, 1);
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        assert!(shown(r#"blip_image_key_values_total{source="cache"} 3"#));
        assert!(shown(r#"blip_image_key_values_total{source="features"} 3"#));
    }

    #[test]
    fn answer_lookups_are_per_model_and_sizes_are_summed() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let cache =
            |model: &str| metrics::with_local_recorder(&recorder, || AnswerCacheMetrics::new(&model.into()));
        let (first, second) = (cache("first"), cache("second"));
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        first.record_lookup(false);
        first.set_size(300, 1);
        first.record_lookup(true);
        first.record_lookup(true);
        second.set_size(700, 2);
        for line in [
            r#"blip_answer_cache_lookups_total{model="first",result="hit"} 2"#,
            r#"blip_answer_cache_lookups_total{model="first",result="miss"} 1"#,
            r#"blip_answer_cache_lookups_total{model="second",result="hit"} 0"#,
            "blip_answer_cache_bytes 1000",
            "blip_answer_cache_answers 3",
        ] {
            assert!(shown(line), "{line} in {}", recorder.handle().render());
        }
        drop(first);
        assert!(shown("blip_answer_cache_bytes 700") && shown("blip_answer_cache_answers 2"));
    }

    #[test]
    fn pixel_bytes_are_summed_over_existing_caches() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (first, second) =
            metrics::with_local_recorder(&recorder, || (PixelCacheMetrics::new(), PixelCacheMetrics::new()));
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        first.record_decoded(100);
        second.record_decoded(50);
        // The insertion evicted another image.
        first.record_decoded(80);
        assert!(shown("blip_image_pixels_bytes 130"));
        drop(first);
        assert!(shown("blip_image_pixels_bytes 50"));
    }
}
