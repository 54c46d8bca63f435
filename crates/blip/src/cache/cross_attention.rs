//! The cross-attention cache of an engine with LibTorch: keys and values of images about which
//! questions arrive repeatedly.
//!
//! Keys and values are many times as large as the features that they are computed from (24 times in
//! the released size). For one or two questions it is cheaper not to compute them (see
//! `AbsorbedProjection::context`). Therefore the cache admits an image when its questions have
//! cost as much extra time as computing its keys and values would. While the cache has room, the
//! total is at most twice the cost of the best choice in hindsight. Afterwards the questions read
//! the cached keys and values, until more recently used images need the room.

use std::collections::HashMap;

use cuda::RangeAttention;
use lru::LruCache;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::{
        layout::{BatchLayout, KvSource},
        rows::ImageDigest,
    },
    cache::{key_value_shape::KeyValueShape, slot_pool::SlotPool},
};

/// Keys and values of images in every layer, by image digest.
#[derive(Debug)]
pub(crate) struct CrossAttentionCache {
    /// `[layers, slots, tokens, 2 * hidden]`, keys and values side by side.
    pool: Tensor,
    slot_of: LruCache<ImageDigest, i64>,
    free: Vec<i64>,
    /// Whether the keys and values of all layers are written, for each slot.
    written: Vec<bool>,
    /// Number of queries so far of images without a slot.
    queries: HashMap<ImageDigest, i64>,
    /// Number of queries at which an image gets a slot. With 0 each batch computes keys and values
    /// in any case, and an image gets a slot in its second batch.
    admission_threshold: i64,
    /// Reads many slots where they are, on CUDA.
    pub(crate) range_attention: Option<RangeAttention>,
}

impl CrossAttentionCache {
    /// Creates a cache of as many images as fit `bytes`, which may be none. `admission_threshold`
    /// is the number of queries over an image that cost as much as computing its keys and values.
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
            range_attention: None,
        })
    }

    /// Creates a cache that stores nothing.
    pub(crate) fn none() -> Result<Self, TchError> {
        let shape = KeyValueShape { layers: 0, tokens: 0, width: 0 };
        Self::new(0, shape, 0, Device::Cpu, Kind::Float)
    }

    /// Returns the source of the keys and values of each of the distinct images of a batch. An
    /// image comes with its number of queries. An image never evicts another image of the same
    /// batch.
    pub(crate) fn assign_sources(&mut self, images: &[(ImageDigest, i64)]) -> Vec<KvSource> {
        if !self.has_slots() {
            return vec![KvSource::Compute; images.len()];
        }
        // Makes all cached images the most recent, so that no image below evicts one of them.
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

    /// Adds queries over an image without a slot, and returns whether the image gets a slot.
    fn is_admitted(&mut self, key: ImageDigest, queries: i64) -> bool {
        let before = self.queries.get(&key).copied();
        let so_far = before.unwrap_or(0) + queries;
        self.queries.insert(key, so_far);
        // If each batch computes keys and values in any case, an earlier batch is sufficient.
        if self.admission_threshold == 0 { before.is_some() } else { so_far >= self.admission_threshold }
    }

    /// Returns an unused slot. If all are used, evicts one of the `evictable` images outside the
    /// batch.
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

    /// Marks the slots of `layout` as written. The encoder calls it after its last layer.
    ///
    /// A batch that fails earlier does not call it, so no batch reads its incomplete slots.
    pub(crate) fn commit(&mut self, layout: &BatchLayout) {
        for source in &layout.sources {
            if let &KvSource::ComputeAndStore(slot) = source
                && let Some(written) = self.written.get_mut(slot as usize)
            {
                *written = true;
            }
        }
    }

    /// Removes an image whose features left the feature cache.
    pub(crate) fn forget(&mut self, key: &ImageDigest) {
        self.queries.remove(key);
        self.free.extend(self.slot_of.pop(key));
    }

    /// Returns whether the cache can store an image.
    pub(crate) fn has_slots(&self) -> bool {
        !self.written.is_empty()
    }

    /// Returns the number of tokens of an image.
    pub(crate) fn tokens(&self) -> Result<i64, TchError> {
        Ok(self.pool.size4()?.2)
    }

    /// Returns the slots of one layer, `[slots, tokens, 2 * hidden]`.
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

    /// Runs a batch with `queries` over each image and returns the sources. Slots to store receive
    /// values that encode the image's number and the layer.
    fn run_batch(cache: &mut CrossAttentionCache, numbers: &[u8], queries: i64) -> Vec<KvSource> {
        let images: Vec<_> = numbers.iter().map(|&number| (key(number), queries)).collect();
        let sources = cache.assign_sources(&images);
        for (&number, source) in numbers.iter().zip(&sources) {
            if let &KvSource::ComputeAndStore(slot) = source {
                for layer in 0..2 {
                    let value = i64::from(number) * 10 + layer as i64;
                    let computed = Tensor::full([1, 3, 4], value, (Kind::Float, Device::Cpu));
                    cache.layer(layer).unwrap().store(&indices(&[slot]), &computed).unwrap();
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
    fn image_is_admitted_after_enough_queries() {
        let mut cache = cache(2, 10);
        assert_eq!(run_batch(&mut cache, &[1], 6), [KvSource::Compute]);
        assert!(matches!(
            run_batch(&mut cache, &[1, 2], 6)[..],
            [KvSource::ComputeAndStore(_), KvSource::Compute]
        ));
        assert!(matches!(run_batch(&mut cache, &[1], 6)[..], [KvSource::Cached(_)]));
        assert!(
            matches!(run_batch(&mut cache, &[3], 10)[..], [KvSource::ComputeAndStore(_)]),
            "one batch with enough queries is sufficient"
        );
    }

    #[test]
    fn second_batch_stores_if_threshold_is_zero() {
        let mut cache = cache(2, 0);
        assert_eq!(run_batch(&mut cache, &[1], 500), [KvSource::Compute]);
        assert!(matches!(run_batch(&mut cache, &[1], 1)[..], [KvSource::ComputeAndStore(_)]));
    }

    #[test]
    fn least_recently_used_image_is_evicted_and_counts_again() {
        let mut cache = cache(2, 10);
        for number in [1, 2, 1, 3] {
            run_batch(&mut cache, &[number], 10);
        }
        assert!(is_cached(&run_batch(&mut cache, &[1], 1)[0]));
        assert_eq!(run_batch(&mut cache, &[2], 9), [KvSource::Compute]);
    }

    #[test]
    fn image_never_evicts_another_image_of_its_batch() {
        let mut cache = cache(2, 10);
        run_batch(&mut cache, &[1], 10);
        let sources = run_batch(&mut cache, &[2, 3, 1], 10);
        assert!(
            matches!(sources[..], [KvSource::ComputeAndStore(_), KvSource::Compute, KvSource::Cached(_)]),
            "{sources:?}"
        );
        assert!(is_cached(&run_batch(&mut cache, &[2], 1)[0]));
    }

    #[test]
    fn slot_of_failed_batch_is_not_read() {
        let mut cache = cache(1, 10);
        let [KvSource::ComputeAndStore(slot)] = cache.assign_sources(&[(key(1), 10)])[..] else { panic!() };
        assert_eq!(cache.assign_sources(&[(key(1), 1)]), [KvSource::ComputeAndStore(slot)]);
    }

    #[test]
    fn slot_of_forgotten_image_is_reused() {
        let mut cache = cache(1, 10);
        run_batch(&mut cache, &[1], 10);
        cache.forget(&key(1));
        assert_eq!(cache.slot_of.len(), 0);
        assert!(matches!(run_batch(&mut cache, &[2], 10)[..], [KvSource::ComputeAndStore(_)]));
        cache.forget(&key(3));
    }

    #[test]
    fn cache_smaller_than_one_image_stores_none() {
        let bytes = SHAPE.bytes(Kind::Float) - 1;
        let too_small = CrossAttentionCache::new(bytes, SHAPE, 0, Device::Cpu, Kind::Float).unwrap();
        for mut cache in [too_small, CrossAttentionCache::none().unwrap()] {
            for _ in 0..3 {
                assert_eq!(run_batch(&mut cache, &[1], 100), [KvSource::Compute]);
            }
        }
    }

    proptest! {
        #[test]
        fn cached_values_equal_stored_values(
            batches in prop::collection::vec((prop::collection::hash_set(0u8..9, 1..5), 1i64..12, 0u8..9, any::<bool>()), 1..40),
        ) {
            let mut cache = cache(3, 10);
            for (numbers, queries, forgotten, forgets) in batches {
                let numbers: Vec<u8> = numbers.into_iter().collect();
                let sources = run_batch(&mut cache, &numbers, queries);
                let slots: Vec<i64> = sources.iter().filter_map(|source| source.slot()).collect();
                let distinct: std::collections::HashSet<i64> = slots.iter().copied().collect();
                prop_assert_eq!(distinct.len(), slots.len(), "each image has a separate slot");
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
