//! Tests of the shared image cache with several engines.

use proptest::prelude::*;

use crate::{
    batch::{
        layout::KvSource,
        rows::{ImageDigest, RowAnswer, RowError, RowSink},
    },
    cache::{batch_key_values::BatchKeyValues, key_value_shape::KeyValueShape, shared::SharedImageCache},
};
use std::num::NonZeroUsize;
use tch::Kind;

const SHAPE: KeyValueShape = KeyValueShape { layers: 2, tokens: 3, width: 4 };

/// What an engine says about images.
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

fn memory(features: usize, key_values: usize) -> SharedImageCache {
    let bytes = key_values * SHAPE.bytes(Kind::Float);
    SharedImageCache::new(NonZeroUsize::new(features).unwrap(), [1, 5], Some(SHAPE), bytes)
}

fn key(number: u8) -> ImageDigest {
    [number; 32]
}

/// Makes the features of those that are not kept, which spell their number.
fn encode(memory: &SharedImageCache, numbers: &[u8]) -> CacheEvents {
    let keys: Vec<ImageDigest> = numbers.iter().map(|&number| key(number)).collect();
    let found = memory.find(&keys);
    let missing = keys.iter().zip(found).filter(|(_, found)| found.is_none());
    let mut events = CacheEvents::default();
    memory.insert(missing.map(|(&key, _)| (key, [f32::from(key[0]); 5].into())), &mut events);
    events
}

fn write(batch: &mut BatchKeyValues, source: KvSource, number: u8) {
    if let KvSource::ComputeAndStore(slot) = source {
        for layer in 0..2 {
            batch.write(layer, slot).unwrap().fill(f32::from(number) * 10.0 + layer as f32);
        }
    }
}

fn begin(memory: &SharedImageCache, numbers: &[u8]) -> (Vec<KvSource>, BatchKeyValues) {
    let mut batch = BatchKeyValues::new(memory);
    (batch.assign_sources(numbers.iter().map(|&number| key(number))), batch)
}

/// A batch about the images from its beginning to its end.
fn ask(memory: &SharedImageCache, numbers: &[u8]) -> Vec<KvSource> {
    let (sources, mut batch) = begin(memory, numbers);
    encode(memory, numbers);
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
fn features_are_found_by_every_engine_and_the_least_recently_used_give_way() {
    let memory = memory(2, 0);
    assert_eq!(encode(&memory, &[1, 2]), CacheEvents { cached: vec![1, 2], evicted: vec![] });
    let other_engine = memory.clone();
    assert_eq!(other_engine.find(&[key(1)])[0].as_deref(), Some(&[1.0; 5][..]));
    assert_eq!(encode(&other_engine, &[3]), CacheEvents { cached: vec![3], evicted: vec![2] });
    assert_eq!(memory.len(), 2);
    assert!(memory.find(&[key(2)])[0].is_none());
}

#[test]
fn of_two_engines_that_encode_the_same_image_the_first_keeps_it_and_only_that_is_told() {
    let memory = memory(2, 0);
    let mut events = CacheEvents::default();
    for _ in 0..2 {
        memory.insert([(key(1), [1.0; 5].into())], &mut events);
    }
    assert_eq!(events, CacheEvents { cached: vec![1], evicted: vec![] });
}

#[test]
fn the_second_batch_keeps_keys_and_values_and_the_third_reads_them() {
    let memory = memory(4, 2);
    assert_eq!(kinds(&ask(&memory, &[1])), "f");
    assert_eq!(kinds(&ask(&memory, &[1, 2])), "Kf");
    assert_eq!(kinds(&ask(&memory, &[1, 2])), "kK");
}

#[test]
fn no_image_of_a_batch_takes_anothers_place_and_the_least_recently_used_gives_way() {
    let memory = memory(4, 2);
    encode(&memory, &[1, 2, 3, 4]);
    ask(&memory, &[1]);
    assert_eq!(kinds(&ask(&memory, &[2, 3, 1])), "Kfk");
    assert_eq!(kinds(&ask(&memory, &[3])), "K");
    assert_eq!(kinds(&ask(&memory, &[2])), "k", "1 was found before it was made");
    assert_eq!(kinds(&ask(&memory, &[1])), "K");
}

#[test]
fn what_a_failed_batch_has_made_is_not_read_and_its_place_is_free_again() {
    let memory = memory(4, 1);
    encode(&memory, &[1, 2]);
    let (sources, failed) = begin(&memory, &[1]);
    assert_eq!(kinds(&sources), "K");
    assert_eq!(kinds(&ask(&memory, &[2])), "f", "the only buffer is in use");
    drop(failed);
    assert_eq!(kinds(&ask(&memory, &[1])), "K");
    assert_eq!(kinds(&ask(&memory, &[1])), "k");
}

#[test]
fn of_two_engines_that_make_the_same_keys_and_values_both_read_their_own_and_one_keeps_them() {
    let memory = memory(4, 2);
    encode(&memory, &[1]);
    let [mut first, mut second] = [(), ()].map(|()| begin(&memory, &[1]));
    for (sources, batch) in [&mut first, &mut second] {
        write(batch, sources[0], 1);
        batch.commit();
    }
    drop((first, second));
    let entries = memory.0.entries();
    assert_eq!((entries.key_values.len(), entries.in_use, entries.free.len()), (1, 0, 1));
}

#[test]
fn what_is_read_stays_as_it_is_though_its_image_gives_way() {
    let memory = memory(2, 1);
    encode(&memory, &[1, 2]);
    ask(&memory, &[1]);
    let (sources, reading) = begin(&memory, &[1]);
    assert_eq!(kinds(&sources), "k");
    assert_eq!(kinds(&ask(&memory, &[2])), "K");
    assert_eq!(reading.read(1, 0).unwrap(), [11.0; 12]);
    assert!(reading.read(2, 0).is_err() && reading.read(0, 1).is_err());
}

#[test]
fn keys_and_values_go_with_their_images_features() {
    let memory = memory(1, 1);
    ask(&memory, &[1]);
    assert_eq!(kinds(&ask(&memory, &[1])), "K");
    encode(&memory, &[2]);
    assert_eq!(memory.0.entries().key_values.len(), 0);
    assert_eq!(kinds(&ask(&memory, &[1])), "f");
}

proptest! {
    #[test]
    fn whatever_engines_do_at_once_bounds_hold_and_numbers_are_their_images(
        batches in prop::collection::vec((prop::collection::hash_set(0u8..9, 1..5), any::<bool>(), any::<bool>()), 1..40),
    ) {
        let memory = memory(5, 3);
        let mut running: Option<(Vec<u8>, Vec<KvSource>, BatchKeyValues)> = None;
        for (numbers, overlaps, fails) in batches {
            let numbers: Vec<u8> = numbers.into_iter().collect();
            if overlaps && running.is_none() {
                let (sources, batch) = begin(&memory, &numbers);
                running = Some((numbers, sources, batch));
                continue;
            }
            // Checks what it reads.
            ask(&memory, &numbers);
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
            let entries = memory.0.entries();
            prop_assert!(entries.features.len() <= 5);
            prop_assert!(entries.key_values.len() + entries.in_use <= 3);
            prop_assert!(running.is_some() || entries.in_use == 0);
            prop_assert!(entries.key_values.len() + entries.in_use + entries.free.len() <= 3);
        }
    }
}
