//! Encoded images, kept on the device so that no image is encoded twice while it is remembered.
//!
//! All features live in one tensor of a fixed number of slots. The least recently used image gives way.

use lru::LruCache;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::rows::ImageDigest,
    cache::slot_pool::{SlotIndices, SlotPool},
};

#[derive(Debug)]
pub(crate) struct FeatureCache {
    /// `[slots, tokens, hidden]`.
    pool: SlotPool,
    slot_of: LruCache<ImageDigest, i64>,
    free: Vec<i64>,
}

/// Where the images of a batch are, and what had to give way for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotAssignment {
    /// A slot for each key, in the order asked.
    pub(crate) slots: Vec<i64>,
    /// Positions among the keys whose features are not in their slot yet.
    pub(crate) missing: Vec<usize>,
    /// Images that are no longer kept.
    pub(crate) evicted: Vec<ImageDigest>,
}

impl FeatureCache {
    /// A cache of `slots` images with features `[tokens, hidden]`.
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

    /// Images that fit.
    pub(crate) fn slots(&self) -> usize {
        self.free.len() + self.slot_of.len()
    }

    /// Size of one image's features, in bytes.
    pub(crate) fn image_bytes(&self) -> usize {
        self.pool.slot_bytes()
    }

    /// Images that are kept now.
    pub(crate) fn len(&self) -> usize {
        self.slot_of.len()
    }

    /// Finds or makes room for the distinct `keys` of a batch; none of them evicts another.
    ///
    /// Returns `None` if there are more keys than slots. The caller must [`Self::store`] the missing ones or
    /// [`Self::forget`] them.
    pub(crate) fn assign_slots(&mut self, keys: &[ImageDigest]) -> Option<SlotAssignment> {
        if keys.len() > self.slots() {
            return None;
        }
        let mut assignment = SlotAssignment::default();
        // First every hit becomes the most recent, so that making room below cannot push one out.
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

    /// Gives up the slot of an image whose features never came.
    pub(crate) fn forget(&mut self, key: &ImageDigest) {
        self.free.extend(self.slot_of.pop(key));
    }

    /// The features in `slots`, `[slots.len(), tokens, hidden]`.
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

    /// Places the keys and stores, for each missing one, features that spell its number.
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
    fn the_least_recently_used_image_gives_way() {
        let mut cache = cache(2);
        touch(&mut cache, &[1]);
        touch(&mut cache, &[2]);
        touch(&mut cache, &[1]);
        assert_eq!(touch(&mut cache, &[3]).evicted, [key(2)]);
        assert_eq!(touch(&mut cache, &[1]).missing, [0usize; 0], "1 was used since");
    }

    #[test]
    fn a_batch_never_evicts_its_own_images() {
        let mut cache = cache(2);
        touch(&mut cache, &[1, 2]);
        let assignment = touch(&mut cache, &[3, 1]);
        assert_eq!(assignment.evicted, [key(2)]);
        assert_eq!(assignment.missing, [0]);
        assert!(cache.assign_slots(&[key(1), key(2), key(3)]).is_none(), "three images do not fit two slots");
    }

    #[test]
    fn a_forgotten_image_is_missing_again() {
        let mut cache = cache(1);
        cache.assign_slots(&[key(1)]).unwrap();
        cache.forget(&key(1));
        assert_eq!(cache.slots(), 1);
        assert_eq!(cache.assign_slots(&[key(1)]).unwrap().missing, [0]);
    }

    proptest! {
        #[test]
        fn gathered_features_are_those_that_were_stored(batches in prop::collection::vec(prop::collection::hash_set(0u8..9, 1..4), 1..20)) {
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
