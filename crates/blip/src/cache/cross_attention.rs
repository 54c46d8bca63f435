//! The keys and values that the question encoder reads of an image, kept for images that are asked about again and again.
//!
//! They are many times as large as the image's features that they are made of (24 times at the released size), and for a
//! question or two it is cheaper not to make them at all (see `CrossAttention::absorbed_context`). So an image has to earn
//! its place: its questions go without until what they cost more than with keys and values adds up to the cost of making
//! them: as long as there is room, that is never more than twice what the best choice in hindsight would have cost. From then
//! on its questions find them here, until images that were asked about more recently need the room.

use std::collections::HashMap;

use lru::LruCache;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::{
        layout::{BatchLayout, KvSource},
        rows::ImageDigest,
    },
    cache::{key_value_shape::KeyValueShape, slot_pool::SlotPool},
};

#[derive(Debug)]
pub(crate) struct CrossAttentionCache {
    /// `[layers, slots, tokens, 2 * hidden]`, keys and values side by side.
    pool: Tensor,
    slot_of: LruCache<ImageDigest, i64>,
    free: Vec<i64>,
    /// For each slot, whether all layers' have been written.
    written: Vec<bool>,
    /// Queries, so far, of images that have no slot.
    queries: HashMap<ImageDigest, i64>,
    /// An image gets a slot for this many queries; 0 where keys and values are made for each batch in any case.
    admission_threshold: i64,
}

impl CrossAttentionCache {
    /// A cache of as many images as fit `bytes`, none if less than one does. `admission_threshold` is the number of queries over an image for
    /// which making its keys and values is worth while.
    pub(crate) fn new(
        bytes: usize,
        shape: KeyValueShape,
        admission_threshold: i64,
        device: Device,
        kind: Kind,
    ) -> Result<Self, TchError> {
        let slots = bytes / shape.bytes(kind).max(1);
        Ok(Self {
            pool: Tensor::f_empty([shape.layers, slots as i64, shape.tokens, shape.width], (kind, device))?,
            slot_of: LruCache::unbounded(),
            free: (0..slots as i64).rev().collect(),
            written: vec![false; slots],
            queries: HashMap::new(),
            admission_threshold,
        })
    }

    /// A cache that keeps nothing.
    pub(crate) fn none() -> Result<Self, TchError> {
        let shape = KeyValueShape { layers: 0, tokens: 0, width: 0 };
        Self::new(0, shape, 0, Device::Cpu, Kind::Float)
    }

    /// Says for each of the distinct images of a batch, given with the number of queries over it, where its keys and values
    /// come from. No image of the batch takes another's slot.
    pub(crate) fn assign_sources(&mut self, images: &[(ImageDigest, i64)]) -> Vec<KvSource> {
        if self.written.is_empty() {
            return vec![KvSource::Compute; images.len()];
        }
        // First all that are here become the most recent, so that making room below cannot push one out.
        let found: Vec<Option<i64>> = images.iter().map(|(key, _)| self.slot_of.get(key).copied()).collect();
        let mut evictable = self.slot_of.len() - found.iter().flatten().count();
        let mut assign = |(&(key, queries), found): (&(ImageDigest, i64), Option<i64>)| match found {
            Some(slot) if self.is_written(slot) => KvSource::Cached(slot),
            Some(slot) => KvSource::ComputeAndStore(slot),
            None => {
                if !self.is_admitted(key, queries) {
                    return KvSource::Compute;
                }
                match self.make_room(&mut evictable) {
                    Some(slot) => {
                        self.queries.remove(&key);
                        self.slot_of.put(key, slot);
                        KvSource::ComputeAndStore(slot)
                    }
                    None => KvSource::Compute,
                }
            }
        };
        images.iter().zip(found).map(&mut assign).collect()
    }

    /// Counts the queries over an image without a slot; says whether they are worth one now.
    fn is_admitted(&mut self, key: ImageDigest, queries: i64) -> bool {
        let before = self.queries.get(&key).copied();
        let so_far = before.unwrap_or(0) + queries;
        self.queries.insert(key, so_far);
        // Where they are made for each batch in any case, what counts is that there was a batch before.
        if self.admission_threshold == 0 { before.is_some() } else { so_far >= self.admission_threshold }
    }

    /// An empty slot, if need be that of one of the `evictable` images that are not of this batch.
    fn make_room(&mut self, evictable: &mut usize) -> Option<i64> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                *evictable = evictable.checked_sub(1)?;
                self.slot_of.pop_lru()?.1
            }
        };
        *self.written.get_mut(slot as usize)? = false;
        Some(slot)
    }

    fn is_written(&self, slot: i64) -> bool {
        self.written.get(slot as usize).copied().unwrap_or(false)
    }

    /// The encoder has been through all its layers with the images of `layout`: what was to be kept is there.
    ///
    /// A batch that failed before never says so, and what it left behind is not read.
    pub(crate) fn commit(&mut self, layout: &BatchLayout) {
        for source in &layout.sources {
            if let &KvSource::ComputeAndStore(slot) = source
                && let Some(written) = self.written.get_mut(slot as usize)
            {
                *written = true;
            }
        }
    }

    /// Gives up an image, whose features are kept no more.
    pub(crate) fn forget(&mut self, key: &ImageDigest) {
        self.queries.remove(key);
        self.free.extend(self.slot_of.pop(key));
    }

    /// What is kept of one layer, `[slots, tokens, 2 * hidden]`.
    pub(crate) fn layer(&self, layer: usize) -> Result<SlotPool, TchError> {
        self.pool.f_select(0, layer as i64).map(SlotPool)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::slot_pool::SlotIndices;

    const SHAPE: KeyValueShape = KeyValueShape { layers: 2, tokens: 3, width: 4 };

    fn cache(slots: usize, admission_threshold: i64) -> CrossAttentionCache {
        let bytes = slots * SHAPE.bytes(Kind::Float);
        CrossAttentionCache::new(bytes, SHAPE, admission_threshold, Device::Cpu, Kind::Float).unwrap()
    }

    fn key(number: u8) -> ImageDigest {
        [number; 32]
    }

    fn indices(slots: &[i64]) -> SlotIndices {
        SlotIndices::new(slots.to_vec(), Device::Cpu).unwrap()
    }

    /// Asks `queries` about each image and writes, where there is something to keep, numbers that spell the image's and the
    /// layer's; returns the sources.
    fn ask(cache: &mut CrossAttentionCache, numbers: &[u8], queries: i64) -> Vec<KvSource> {
        let images: Vec<_> = numbers.iter().map(|&number| (key(number), queries)).collect();
        let sources = cache.assign_sources(&images);
        for (&number, source) in numbers.iter().zip(&sources) {
            if let &KvSource::ComputeAndStore(slot) = source {
                for layer in 0..2 {
                    let value = i64::from(number) * 10 + layer as i64;
                    let made = Tensor::full([1, 3, 4], value, (Kind::Float, Device::Cpu));
                    cache.layer(layer).unwrap().store(&indices(&[slot]), &made).unwrap();
                }
            }
        }
        cache.commit(&BatchLayout { sources: sources.clone(), ..BatchLayout::default() });
        sources
    }

    fn is_cached(source: &KvSource) -> bool {
        matches!(source, KvSource::Cached(_))
    }

    #[test]
    fn an_image_earns_its_place_by_the_queries_over_it() {
        let mut cache = cache(2, 10);
        assert_eq!(ask(&mut cache, &[1], 6), [KvSource::Compute]);
        assert!(matches!(ask(&mut cache, &[1, 2], 6)[..], [KvSource::ComputeAndStore(_), KvSource::Compute]));
        assert!(matches!(ask(&mut cache, &[1], 6)[..], [KvSource::Cached(_)]));
        assert!(
            matches!(ask(&mut cache, &[3], 10)[..], [KvSource::ComputeAndStore(_)]),
            "at once if it has enough of them"
        );
    }

    #[test]
    fn where_they_are_made_in_any_case_the_second_batch_keeps_them() {
        let mut cache = cache(2, 0);
        assert_eq!(ask(&mut cache, &[1], 500), [KvSource::Compute]);
        assert!(matches!(ask(&mut cache, &[1], 1)[..], [KvSource::ComputeAndStore(_)]));
    }

    #[test]
    fn the_least_recently_used_image_gives_way_and_has_to_earn_its_place_anew() {
        let mut cache = cache(2, 10);
        for number in [1, 2, 1, 3] {
            ask(&mut cache, &[number], 10);
        }
        assert!(is_cached(&ask(&mut cache, &[1], 1)[0]));
        assert_eq!(ask(&mut cache, &[2], 9), [KvSource::Compute]);
    }

    #[test]
    fn no_image_of_a_batch_takes_anothers_slot() {
        let mut cache = cache(2, 10);
        ask(&mut cache, &[1], 10);
        let sources = ask(&mut cache, &[2, 3, 1], 10);
        assert!(
            matches!(sources[..], [KvSource::ComputeAndStore(_), KvSource::Compute, KvSource::Cached(_)]),
            "{sources:?}"
        );
        assert!(is_cached(&ask(&mut cache, &[2], 1)[0]));
    }

    #[test]
    fn what_a_failed_batch_left_behind_is_not_read() {
        let mut cache = cache(1, 10);
        let [KvSource::ComputeAndStore(slot)] = cache.assign_sources(&[(key(1), 10)])[..] else { panic!() };
        assert_eq!(cache.assign_sources(&[(key(1), 1)]), [KvSource::ComputeAndStore(slot)]);
    }

    #[test]
    fn a_forgotten_image_leaves_its_slot_to_others() {
        let mut cache = cache(1, 10);
        ask(&mut cache, &[1], 10);
        cache.forget(&key(1));
        assert_eq!(cache.slot_of.len(), 0);
        assert!(matches!(ask(&mut cache, &[2], 10)[..], [KvSource::ComputeAndStore(_)]));
        cache.forget(&key(3));
    }

    #[test]
    fn a_cache_with_room_for_no_image_keeps_none() {
        let bytes = SHAPE.bytes(Kind::Float) - 1;
        let too_small = CrossAttentionCache::new(bytes, SHAPE, 0, Device::Cpu, Kind::Float).unwrap();
        for mut cache in [too_small, CrossAttentionCache::none().unwrap()] {
            for _ in 0..3 {
                assert_eq!(ask(&mut cache, &[1], 100), [KvSource::Compute]);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_made(
            batches in prop::collection::vec((prop::collection::hash_set(0u8..9, 1..5), 1i64..12, 0u8..9, any::<bool>()), 1..40),
        ) {
            let mut cache = cache(3, 10);
            for (numbers, queries, forgotten, forgets) in batches {
                let numbers: Vec<u8> = numbers.into_iter().collect();
                let sources = ask(&mut cache, &numbers, queries);
                let slots: Vec<i64> = sources.iter().filter_map(|source| source.slot()).collect();
                let distinct: std::collections::HashSet<i64> = slots.iter().copied().collect();
                prop_assert_eq!(distinct.len(), slots.len(), "each image has a slot of its own");
                for layer in 0..2 {
                    if slots.is_empty() {
                        continue;
                    }
                    let gathered = cache.layer(layer).unwrap().gather(&indices(&slots)).unwrap();
                    let with_slot = numbers.iter().zip(&sources).filter(|(_, source)| source.slot().is_some());
                    for (position, (&number, _)) in with_slot.enumerate() {
                        let value = gathered.double_value(&[position as i64, 2, 3]);
                        prop_assert_eq!(value, f64::from(number) * 10.0 + layer as f64);
                    }
                }
                if forgets {
                    cache.forget(&key(forgotten));
                }
                prop_assert!(cache.slot_of.len() <= 3);
            }
        }
    }
}
