//! What is kept of images that were seen, their pixels and their features, and of questions about them, their answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, Gauge, counter, gauge};

use super::table::{
    ANSWERS, ANSWERS_BYTES, ANSWERS_LOOKED_UP, FEATURES_EVICTED, FEATURES_HELD, KEY_VALUES, PIXELS,
    PIXELS_HELD,
};

/// The features that one engine keeps, or several in one place. What is dropped with them is not there any more.
pub struct KeptFeatures {
    bytes: AtomicU64,
    all: Gauge,
    evicted: Counter,
    key_values_kept: Counter,
    key_values_lacking: Counter,
}

impl std::fmt::Debug for KeptFeatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptFeatures").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl KeptFeatures {
    /// None yet; recorded by the recorder that is installed now.
    #[must_use]
    pub fn new() -> Self {
        let evicted = counter!(FEATURES_EVICTED);
        // To be seen before it counts.
        evicted.increment(0);
        Self {
            bytes: AtomicU64::new(0),
            all: gauge!(FEATURES_HELD),
            evicted,
            key_values_kept: counter!(KEY_VALUES, "source" => "cache"),
            key_values_lacking: counter!(KEY_VALUES, "source" => "features"),
        }
    }

    /// An image's features are kept from now on.
    pub fn keep(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.increment(bytes as f64);
    }

    /// A batch has read `images` images, of which `kept` had their keys and values kept.
    pub fn read_key_values(&self, kept: usize, images: usize) {
        self.key_values_kept.increment(kept as u64);
        self.key_values_lacking.increment(images.saturating_sub(kept) as u64);
    }

    /// An image's features have given way to another's.
    pub fn evict(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.all.decrement(bytes as f64);
        self.evicted.increment(1);
    }
}

impl Default for KeptFeatures {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for KeptFeatures {
    fn drop(&mut self) {
        self.all.decrement(*self.bytes.get_mut() as f64);
    }
}

/// The pixels that one model keeps. What a model that is gone has kept is not there any more.
pub struct KeptPixels {
    bytes: AtomicU64,
    all: Gauge,
    found: Counter,
    decoded: Counter,
}

impl std::fmt::Debug for KeptPixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptPixels").finish_non_exhaustive()
    }
}

impl KeptPixels {
    /// Recorded by the recorder that is installed now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            all: gauge!(PIXELS_HELD),
            found: counter!(PIXELS, "source" => "cache"),
            decoded: counter!(PIXELS, "source" => "decoder"),
        }
    }

    /// An image's pixels were there.
    pub fn found(&self) {
        self.found.increment(1);
    }

    /// An image was decoded; so many bytes are kept now.
    pub fn decoded(&self, bytes: u64) {
        self.decoded.increment(1);
        tell(&self.bytes, bytes, &self.all);
    }
}

impl Default for KeptPixels {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for KeptPixels {
    fn drop(&mut self) {
        self.all.decrement(*self.bytes.get_mut() as f64);
    }
}

/// The answers that one model keeps. What a model that is gone has kept is not there any more.
pub struct KeptAnswers {
    bytes: AtomicU64,
    entries: AtomicU64,
    all_bytes: Gauge,
    all_entries: Gauge,
    hits: Counter,
    misses: Counter,
}

impl std::fmt::Debug for KeptAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptAnswers").finish_non_exhaustive()
    }
}

impl KeptAnswers {
    /// Those of the model of this name, none yet; recorded by the recorder that is installed now.
    #[must_use]
    pub fn new(model: &Arc<str>) -> Self {
        let looked_up = |result: &'static str| {
            let counter = counter!(ANSWERS_LOOKED_UP, "model" => Arc::clone(model), "result" => result);
            // To be seen before it counts.
            counter.increment(0);
            counter
        };
        Self {
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            all_bytes: gauge!(ANSWERS_BYTES),
            all_entries: gauge!(ANSWERS),
            hits: looked_up("hit"),
            misses: looked_up("miss"),
        }
    }

    /// An answer was looked for.
    pub fn looked_up(&self, found: bool) {
        let result = if found { &self.hits } else { &self.misses };
        result.increment(1);
    }

    /// So many bytes of so many answers are kept now.
    pub fn hold(&self, bytes: u64, answers: usize) {
        tell(&self.bytes, bytes, &self.all_bytes);
        tell(&self.entries, answers as u64, &self.all_entries);
    }
}

impl Drop for KeptAnswers {
    fn drop(&mut self) {
        self.hold(0, 0);
    }
}

/// What was `before` is `now`, and `all` changes by as much.
fn tell(before: &AtomicU64, now: u64, all: &Gauge) {
    let before = before.swap(now, Ordering::Relaxed);
    all.increment(now as f64 - before as f64);
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn features_of_all_engines_are_summed_and_those_of_a_lost_engine_are_gone() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (first, second) =
            metrics::with_local_recorder(&recorder, || (KeptFeatures::new(), KeptFeatures::new()));
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        assert!(shown("blip_image_features_evicted_total 0"));
        first.keep(100);
        first.keep(100);
        second.keep(100);
        second.evict(100);
        second.keep(100);
        assert!(shown("blip_image_features_bytes 300") && shown("blip_image_features_evicted_total 1"));
        drop(first);
        assert!(shown("blip_image_features_bytes 100"));
    }

    #[test]
    fn images_are_counted_by_whether_their_keys_and_values_were_kept() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let kept = metrics::with_local_recorder(&recorder, KeptFeatures::new);
        kept.read_key_values(2, 5);
        kept.read_key_values(1, 1);
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        assert!(shown(r#"blip_image_key_values_total{source="cache"} 3"#));
        assert!(shown(r#"blip_image_key_values_total{source="features"} 3"#));
    }

    #[test]
    fn answers_are_looked_up_in_one_model_and_those_of_a_lost_model_are_gone() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let kept = |model: &str| metrics::with_local_recorder(&recorder, || KeptAnswers::new(&model.into()));
        let (first, second) = (kept("first"), kept("second"));
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        first.looked_up(false);
        first.hold(300, 1);
        first.looked_up(true);
        first.looked_up(true);
        second.hold(700, 2);
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
    fn pixels_of_all_models_are_summed_and_those_of_a_lost_model_are_gone() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (first, second) =
            metrics::with_local_recorder(&recorder, || (KeptPixels::new(), KeptPixels::new()));
        let shown = |line: &str| recorder.handle().render().lines().any(|found| found == line);
        first.decoded(100);
        second.decoded(50);
        // Something gave way to it.
        first.decoded(80);
        assert!(shown("blip_image_pixels_bytes 130"));
        drop(first);
        assert!(shown("blip_image_pixels_bytes 50"));
    }
}
