//! A random sample of a fixed size, in bounded memory.

use std::collections::BTreeMap;

/// A random sample of offered items: those whose positions have the smallest hashes.
///
/// The same items in the same order give the same sample.
#[derive(Debug)]
pub(super) struct Sample<T> {
    max_items: usize,
    offered: u64,
    /// The items by the hash of their position, with their position.
    items: BTreeMap<[u8; 32], (u64, T)>,
}

impl<T> Sample<T> {
    /// Creates a sample of at most `max_items` items.
    pub(super) fn new(max_items: usize) -> Self {
        Self { max_items, offered: 0, items: BTreeMap::new() }
    }

    /// Offers an item. It is made only if it belongs to the sample so far.
    pub(super) fn offer(&mut self, item: impl FnOnce() -> T) {
        let position = self.offered;
        self.offered += 1;
        let hash = *blake3::hash(&position.to_le_bytes()).as_bytes();
        let is_full = self.items.len() >= self.max_items;
        if is_full && self.items.last_key_value().is_none_or(|(largest, _)| *largest < hash) {
            return;
        }
        self.items.insert(hash, (position, item()));
        if is_full {
            self.items.pop_last();
        }
    }

    /// Returns the items in the order in which they were offered.
    pub(super) fn items(&self) -> Vec<&T> {
        let mut items: Vec<&(u64, T)> = self.items.values().collect();
        items.sort_unstable_by_key(|(position, _)| *position);
        items.into_iter().map(|(_, item)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(max_items: usize, offered: u64) -> Vec<u64> {
        let mut sample = Sample::new(max_items);
        (0..offered).for_each(|item| sample.offer(|| item));
        sample.items().into_iter().copied().collect()
    }

    proptest! {
        #[test]
        fn sample_has_distinct_offered_items_in_order(max_items in 0_usize..8, offered in 0_u64..40) {
            let items = sample(max_items, offered);
            prop_assert_eq!(items.len() as u64, offered.min(max_items as u64));
            prop_assert!(items.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(items.iter().all(|item| *item < offered));
        }
    }

    /// A sample of the first or the last items would have a mean far from the middle.
    #[test]
    fn sample_comes_from_the_whole_input() {
        let items = sample(200, 10_000);
        let mean = items.iter().sum::<u64>() / 200;
        assert!((4_300..5_700).contains(&mean), "{mean}");
    }
}
