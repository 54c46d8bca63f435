//! The feature cache of an engine with LibTorch: features of encoded images on the device.
//!
//! All features are slots of one tensor of fixed size. The cache evicts the least recently used
//! image.

use lru::LruCache;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::rows::ImageDigest,
    cache::slot_pool::{SlotIndices, SlotPool},
};

/// Features of images by image digest.
#[derive(Debug)]
pub(crate) struct FeatureCache {
    /// `[slots, tokens, hidden]`.
    pool: SlotPool,
    slot_of: LruCache<ImageDigest, i64>,
    free: Vec<i64>,
}

/// Slots of the images of a batch, and the images that were evicted for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotAssignment {
    /// A slot for each key, in the order of the keys.
    pub(crate) slots: Vec<i64>,
    /// Positions of the keys whose features are not in their slot yet.
    pub(crate) missing: Vec<usize>,
    /// Images whose features left the cache.
    pub(crate) evicted: Vec<ImageDigest>,
}

impl FeatureCache {
    /// Creates a cache of `slots` images with features `[tokens, hidden]`.
    pub(crate) fn new(
        slots: i64,
        tokens: i64,
        hidden: i64,
        device: Device,
        kind: Kind,
    ) -> Result<Self, TchError> {
        Ok(Self {
            pool: SlotPool(Tensor::f_empty([slots, tokens, hidden], (kind, device))?),
            slot_of: LruCache::unbounded(),
            free: (0..slots).rev().collect(),
        })
    }

    /// Returns the number of images that fit.
    pub(crate) fn slots(&self) -> usize {
        self.free.len() + self.slot_of.len()
    }

    /// Returns the size of one image's features, in bytes.
    pub(crate) fn image_bytes(&self) -> usize {
        self.pool.slot_bytes()
    }

    /// Returns the number of cached images.
    pub(crate) fn len(&self) -> usize {
        self.slot_of.len()
    }

    /// Assigns a slot to each of the distinct `keys` of a batch. No key evicts another one.
    ///
    /// Returns `None` if there are more keys than slots. The caller must [`Self::store`] the
    /// features of the missing keys or [`Self::forget`] these keys.
    pub(crate) fn assign_slots(&mut self, keys: &[ImageDigest]) -> Option<SlotAssignment> {
        if keys.len() > self.slots() {
            return None;
        }
        let mut assignment = SlotAssignment::default();
        // Makes all cached keys the most recent, so that no key below evicts one of them.
        let found: Vec<Option<i64>> = keys.iter().map(|key| self.slot_of.get(key).copied()).collect();
        for (position, (key, found)) in keys.iter().zip(found).enumerate() {
            let slot = match found {
                Some(slot) => slot,
                None => {
                    assignment.missing.push(position);
                    let slot = match self.free.pop() {
                        Some(slot) => slot,
                        None => {
                            let (evicted, slot) = self.slot_of.pop_lru()?;
                            assignment.evicted.push(evicted);
                            slot
                        }
                    };
                    self.slot_of.put(*key, slot);
                    slot
                }
            };
            assignment.slots.push(slot);
        }
        Some(assignment)
    }

    /// Writes `features` `[slots.len(), tokens, hidden]` into `slots`.
    pub(crate) fn store(&mut self, slots: &[i64], features: &Tensor) -> Result<(), TchError> {
        self.pool.store(&self.indices(slots)?, features)
    }

    /// Releases the slot of an image whose features were not stored.
    pub(crate) fn forget(&mut self, key: &ImageDigest) {
        self.free.extend(self.slot_of.pop(key));
    }

    /// Returns the features in `slots`, `[slots.len(), tokens, hidden]`.
    pub(crate) fn gather(&self, slots: &[i64]) -> Result<Tensor, TchError> {
        self.pool.gather(&self.indices(slots)?)
    }

    fn indices(&self, slots: &[i64]) -> Result<SlotIndices, TchError> {
        SlotIndices::new(slots.to_vec(), self.pool.0.device())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cache(slots: i64) -> FeatureCache {
        FeatureCache::new(slots, 2, 3, Device::Cpu, Kind::Float).unwrap()
    }

    fn key(number: u8) -> ImageDigest {
        [number; 32]
    }

    /// Assigns slots to the keys and stores features that encode the number of each missing key.
    fn touch(cache: &mut FeatureCache, numbers: &[u8]) -> SlotAssignment {
        let keys: Vec<ImageDigest> = numbers.iter().map(|&number| key(number)).collect();
        let assignment = cache.assign_slots(&keys).unwrap();
        for &position in &assignment.missing {
            let features = Tensor::full([1, 2, 3], i64::from(numbers[position]), (Kind::Float, Device::Cpu));
            cache.store(&assignment.slots[position..=position], &features).unwrap();
        }
        assignment
    }

    #[test]
    fn least_recently_used_image_is_evicted() {
        let mut cache = cache(2);
        touch(&mut cache, &[1]);
        touch(&mut cache, &[2]);
        touch(&mut cache, &[1]);
        assert_eq!(touch(&mut cache, &[3]).evicted, [key(2)]);
        assert_eq!(touch(&mut cache, &[1]).missing, [0usize; 0], "1 is more recent than 2");
    }

    #[test]
    fn batch_never_evicts_one_of_its_images() {
        let mut cache = cache(2);
        touch(&mut cache, &[1, 2]);
        let assignment = touch(&mut cache, &[3, 1]);
        assert_eq!(assignment.evicted, [key(2)]);
        assert_eq!(assignment.missing, [0]);
        assert!(cache.assign_slots(&[key(1), key(2), key(3)]).is_none(), "three images do not fit two slots");
    }

    #[test]
    fn forgotten_image_is_missing_again() {
        let mut cache = cache(1);
        cache.assign_slots(&[key(1)]).unwrap();
        cache.forget(&key(1));
        assert_eq!(cache.slots(), 1);
        assert_eq!(cache.assign_slots(&[key(1)]).unwrap().missing, [0]);
    }

    proptest! {
        #[test]
        fn gathered_features_equal_stored_features(batches in prop::collection::vec(prop::collection::hash_set(0u8..9, 1..4), 1..20)) {
            let mut cache = cache(4);
            for batch in batches {
                let numbers: Vec<u8> = batch.into_iter().collect();
                let assignment = touch(&mut cache, &numbers);
                let gathered = cache.gather(&assignment.slots).unwrap();
                for (position, &number) in numbers.iter().enumerate() {
                    let value = gathered.double_value(&[position as i64, 1, 2]);
                    prop_assert_eq!(value, f64::from(number));
                }
                prop_assert!(cache.len() <= 4);
                prop_assert_eq!(cache.slots(), 4);
            }
        }
    }
}
