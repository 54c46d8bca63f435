//! Tests of the shared image cache with several engines.

use proptest::prelude::*;

use crate::{
    batch::{
        layout::KvSource,
        rows::{ImageDigest, RowAnswer, RowError, RowSink},
    },
    cache::{
        batch_key_values::BatchKeyValues, feature_buffer::FeatureBuffer, key_value_shape::KeyValueShape,
        shared::SharedImageCache,
    },
};
use cpu_kernels::NumberFormat;
use std::num::NonZeroUsize;
use tch::Kind;

const SHAPE: KeyValueShape = KeyValueShape { layers: 2, tokens: 3, width: 4 };

/// Images that an engine reported as cached and as evicted.
#[derive(Default, Debug, PartialEq)]
struct CacheEvents {
    cached: Vec<u8>,
    evicted: Vec<u8>,
}

impl RowSink for CacheEvents {
    fn finish(&mut self, _: usize, _: Result<RowAnswer, RowError>) {}

    fn is_cancelled(&self, _: usize) -> bool {
        false
    }

    fn image_cached(&mut self, key: &ImageDigest, bytes: usize) {
        assert_eq!(bytes, 5 * 4);
        self.cached.push(key[0]);
    }

    fn image_evicted(&mut self, key: &ImageDigest) {
        self.evicted.push(key[0]);
    }
}

fn cache(features: usize, key_value_images: usize) -> SharedImageCache {
    cache_with_threshold(features, key_value_images, 0)
}

fn cache_with_threshold(features: usize, key_value_images: usize, threshold: i64) -> SharedImageCache {
    let bytes = key_value_images * SHAPE.bytes(Kind::Float);
    let features = NonZeroUsize::new(features).unwrap();
    SharedImageCache::new(features, ([1, 5], NumberFormat::F32), Some(SHAPE), bytes, threshold)
}

fn key(number: u8) -> ImageDigest {
    [number; 32]
}

/// Returns features that encode the number of an image.
fn features(number: u8) -> FeatureBuffer {
    FeatureBuffer::new(&[f32::from(number); 5], NumberFormat::F32)
}

/// Stores features of the images that are not cached.
fn encode(cache: &SharedImageCache, numbers: &[u8]) -> CacheEvents {
    let keys: Vec<ImageDigest> = numbers.iter().map(|&number| key(number)).collect();
    let found = cache.find(&keys);
    let missing = keys.iter().zip(found).filter(|(_, found)| found.is_none());
    let mut events = CacheEvents::default();
    cache.insert(missing.map(|(&key, _)| (key, features(key[0]))), &mut events);
    events
}

fn write(batch: &mut BatchKeyValues, source: KvSource, number: u8) {
    if let KvSource::ComputeAndStore(slot) = source {
        for layer in 0..2 {
            batch.write(layer, slot).unwrap().fill(f32::from(number) * 10.0 + layer as f32);
        }
    }
}

fn begin(cache: &SharedImageCache, numbers: &[u8]) -> (Vec<KvSource>, BatchKeyValues) {
    let mut batch = BatchKeyValues::new(cache);
    let images: Vec<_> = numbers.iter().map(|&number| (key(number), 1)).collect();
    (batch.assign_sources(&images), batch)
}

/// Runs a complete batch over the images, checks the values it reads and returns the sources.
fn run_batch(cache: &SharedImageCache, numbers: &[u8]) -> Vec<KvSource> {
    let (sources, mut batch) = begin(cache, numbers);
    encode(cache, numbers);
    for (&number, &source) in numbers.iter().zip(&sources) {
        write(&mut batch, source, number);
    }
    batch.commit();
    for (&number, &source) in numbers.iter().zip(&sources) {
        if let KvSource::Cached(slot) = source {
            for layer in 0..2 {
                let expected = [f32::from(number) * 10.0 + layer as f32; 12];
                assert_eq!(batch.read(layer, slot).unwrap(), expected);
            }
        }
    }
    sources
}

fn kinds(sources: &[KvSource]) -> String {
    let letter = |source: &KvSource| match source {
        KvSource::Compute => 'f',
        KvSource::ComputeAndStore(_) => 'K',
        KvSource::Cached(_) => 'k',
    };
    sources.iter().map(letter).collect()
}

#[test]
fn features_are_shared_and_least_recently_used_are_evicted() {
    let cache = cache(2, 0);
    assert_eq!(encode(&cache, &[1, 2]), CacheEvents { cached: vec![1, 2], evicted: vec![] });
    let other_engine = cache.clone();
    let found = other_engine.find(&[key(1)])[0].clone().unwrap();
    assert_eq!(*found.numbers(), [1.0; 5]);
    assert_eq!(encode(&other_engine, &[3]), CacheEvents { cached: vec![3], evicted: vec![2] });
    assert_eq!(cache.len(), 2);
    assert!(cache.find(&[key(2)])[0].is_none());
}

#[test]
fn image_encoded_by_two_engines_is_stored_and_reported_once() {
    let cache = cache(2, 0);
    let mut events = CacheEvents::default();
    for _ in 0..2 {
        cache.insert([(key(1), features(1))], &mut events);
    }
    assert_eq!(events, CacheEvents { cached: vec![1], evicted: vec![] });
}

#[test]
fn second_batch_stores_key_values_and_third_batch_reads_them() {
    let cache = cache(4, 2);
    assert_eq!(kinds(&run_batch(&cache, &[1])), "f");
    assert_eq!(kinds(&run_batch(&cache, &[1, 2])), "Kf");
    assert_eq!(kinds(&run_batch(&cache, &[1, 2])), "kK");
}

/// Each batch has one query over each image.
#[test]
fn key_values_are_stored_when_queries_reach_the_threshold() {
    let cache = cache_with_threshold(4, 2, 3);
    assert_eq!(kinds(&run_batch(&cache, &[1])), "f");
    assert_eq!(kinds(&run_batch(&cache, &[1, 2])), "ff");
    assert_eq!(kinds(&run_batch(&cache, &[1, 2])), "Kf");
    assert_eq!(kinds(&run_batch(&cache, &[1, 2])), "kK");
    let first_batch_suffices = cache_with_threshold(4, 2, 1);
    assert_eq!(kinds(&run_batch(&first_batch_suffices, &[1])), "f", "the image may never return");
    assert_eq!(kinds(&run_batch(&first_batch_suffices, &[1])), "K");
}

#[test]
fn features_of_texts_in_bf16_have_half_the_bytes() {
    for (format, bytes) in [(NumberFormat::F32, 20), (NumberFormat::Bf16, 10), (NumberFormat::Int8, 20)] {
        let cache = SharedImageCache::new(NonZeroUsize::MIN, ([1, 5], format), None, 0, 0);
        assert_eq!(cache.image_bytes(), bytes);
        let stored = match FeatureBuffer::new(&[1.0; 5], cache.format()) {
            FeatureBuffer::F32(numbers) => size_of_val(&*numbers),
            FeatureBuffer::Bf16(bits) => size_of_val(&*bits),
        };
        assert_eq!(stored, bytes);
    }
}

#[test]
fn queries_of_images_without_features_are_forgotten() {
    let cache = cache_with_threshold(2, 2, 3);
    run_batch(&cache, &[1]);
    // The batch fails before it stores features.
    drop(begin(&cache, &[5]));
    run_batch(&cache, &[2]);
    // Evicts the features of the first image.
    run_batch(&cache, &[3]);
    let mut counted: Vec<u8> = cache.0.entries().queries.keys().map(|key| key[0]).collect();
    counted.sort_unstable();
    assert_eq!(counted, [2, 3]);
}

#[test]
fn image_never_evicts_another_image_of_its_batch() {
    let cache = cache(4, 2);
    encode(&cache, &[1, 2, 3, 4]);
    run_batch(&cache, &[1]);
    assert_eq!(kinds(&run_batch(&cache, &[2, 3, 1])), "Kfk");
    assert_eq!(kinds(&run_batch(&cache, &[3])), "K");
    assert_eq!(kinds(&run_batch(&cache, &[2])), "k", "3 replaced 1, the least recently used image");
    assert_eq!(kinds(&run_batch(&cache, &[1])), "K");
}

#[test]
fn buffers_of_failed_batch_are_not_read_and_reused() {
    let cache = cache(4, 1);
    encode(&cache, &[1, 2]);
    let (sources, failed) = begin(&cache, &[1]);
    assert_eq!(kinds(&sources), "K");
    assert_eq!(kinds(&run_batch(&cache, &[2])), "f", "the only buffer is in use");
    drop(failed);
    assert_eq!(kinds(&run_batch(&cache, &[1])), "K");
    assert_eq!(kinds(&run_batch(&cache, &[1])), "k");
}

#[test]
fn key_values_computed_by_two_engines_are_stored_once() {
    let cache = cache(4, 2);
    encode(&cache, &[1]);
    let [mut first, mut second] = [(), ()].map(|()| begin(&cache, &[1]));
    for (sources, batch) in [&mut first, &mut second] {
        write(batch, sources[0], 1);
        batch.commit();
    }
    drop((first, second));
    let entries = cache.0.entries();
    assert_eq!((entries.key_values.len(), entries.in_use, entries.free.len()), (1, 0, 1));
}

#[test]
fn values_in_use_are_unchanged_after_eviction() {
    let cache = cache(2, 1);
    encode(&cache, &[1, 2]);
    run_batch(&cache, &[1]);
    let (sources, reading) = begin(&cache, &[1]);
    assert_eq!(kinds(&sources), "k");
    assert_eq!(kinds(&run_batch(&cache, &[2])), "K");
    assert_eq!(reading.read(1, 0).unwrap(), [11.0; 12]);
    assert!(reading.read(2, 0).is_err() && reading.read(0, 1).is_err());
}

#[test]
fn key_values_are_evicted_with_their_image_features() {
    let cache = cache(1, 1);
    run_batch(&cache, &[1]);
    assert_eq!(kinds(&run_batch(&cache, &[1])), "K");
    encode(&cache, &[2]);
    assert_eq!(cache.0.entries().key_values.len(), 0);
    assert_eq!(kinds(&run_batch(&cache, &[1])), "f");
}

proptest! {
    #[test]
    fn concurrent_engines_respect_bounds_and_read_correct_values(
        batches in prop::collection::vec((prop::collection::hash_set(0u8..9, 1..5), any::<bool>(), any::<bool>()), 1..40),
    ) {
        let cache = cache(5, 3);
        let mut running: Option<(Vec<u8>, Vec<KvSource>, BatchKeyValues)> = None;
        for (numbers, overlaps, fails) in batches {
            let numbers: Vec<u8> = numbers.into_iter().collect();
            if overlaps && running.is_none() {
                let (sources, batch) = begin(&cache, &numbers);
                running = Some((numbers, sources, batch));
                continue;
            }
            // This batch checks the values that it reads.
            run_batch(&cache, &numbers);
            if let Some((numbers, sources, mut batch)) = running.take() {
                for (&number, &source) in numbers.iter().zip(&sources) {
                    write(&mut batch, source, number);
                    if let KvSource::Cached(slot) = source {
                        prop_assert_eq!(batch.read(1, slot).unwrap(), [f32::from(number) * 10.0 + 1.0; 12]);
                    }
                }
                if !fails {
                    batch.commit();
                }
            }
            let entries = cache.0.entries();
            prop_assert!(entries.features.len() <= 5);
            prop_assert!(entries.key_values.len() + entries.in_use <= 3);
            prop_assert!(running.is_some() || entries.in_use == 0);
            prop_assert!(entries.key_values.len() + entries.in_use + entries.free.len() <= 3);
        }
    }
}
