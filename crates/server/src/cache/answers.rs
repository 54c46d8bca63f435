//! A cache of computed answers by image and question.
//!
//! A repeated question is not computed again. An entry is the output of the engine without its
//! times. Each request formats it again.

use std::sync::Arc;

use blip::{AttentionMap, RankedCandidate, RowOutput, Sequence};
use images::ImageDigest;
use quick_cache::{Weighter, sync::Cache};

use crate::cache::metrics::AnswerCacheMetrics;

/// An upper bound of the bytes that an entry takes in the tables of the cache.
///
/// The tables grow by doubling, and also record evicted entries.
const OVERHEAD_BYTES: usize = 288;

/// The overhead of the allocator per allocation, in bytes.
const ALLOCATION_BYTES: usize = 16;

/// The size of a typical entry, an answer of one word, in bytes.
const TYPICAL_BYTES: usize = 400;

/// The key of an answer: the digests of the image file, and of the question with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    image: [u8; 32],
    question: [u8; 32],
}

impl AnswerKey {
    /// Combines the digest of an image with the digest of a question, its task and its options.
    #[must_use]
    pub fn new(image: ImageDigest, question: [u8; 32]) -> Self {
        Self { image: image.0, question }
    }
}

/// The answer cache of one model, limited by bytes. It evicts rarely used answers first.
///
/// Clones share the entries. The default cache is always empty.
#[derive(Clone, Debug, Default)]
pub struct AnswerCache(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    answers: Cache<AnswerKey, RowOutput, AnswerWeighter>,
    metrics: AnswerCacheMetrics,
}

#[derive(Clone, Debug)]
struct AnswerWeighter;

impl Weighter<AnswerKey, RowOutput> for AnswerWeighter {
    fn weight(&self, _: &AnswerKey, answer: &RowOutput) -> u64 {
        (size_of::<AnswerKey>() + size_of::<RowOutput>() + OVERHEAD_BYTES + heap_bytes(answer)) as u64
    }
}

/// Returns the heap memory of an answer, in bytes.
fn heap_bytes(answer: &RowOutput) -> usize {
    match answer {
        RowOutput::Generated(sequences) => {
            let tokens = |sequence: &Sequence| allocated::<i64>(sequence.token_ids.capacity());
            allocated::<Sequence>(sequences.capacity()) + sequences.iter().map(tokens).sum::<usize>()
        }
        RowOutput::Ranked(candidates) => allocated::<RankedCandidate>(candidates.capacity()),
        RowOutput::Embedding(values) => allocated::<f32>(values.capacity()),
        RowOutput::Matched(_) => 0,
        RowOutput::Explained(explained) => {
            let (output, map) = &**explained;
            allocated::<(RowOutput, AttentionMap)>(1)
                + heap_bytes(output)
                + allocated::<f32>(map.weights.capacity())
        }
    }
}

fn allocated<T>(count: usize) -> usize {
    count * size_of::<T>() + ALLOCATION_BYTES
}

impl AnswerCache {
    /// Creates a cache of at most `capacity_bytes` for the model of this name.
    ///
    /// With 0, it is always empty.
    #[must_use]
    pub fn new(capacity_bytes: usize, model: &Arc<str>) -> Self {
        let inner = || {
            let entries = capacity_bytes.div_ceil(TYPICAL_BYTES);
            let answers = Cache::with_weighter(entries, capacity_bytes as u64, AnswerWeighter);
            Arc::new(Inner { answers, metrics: AnswerCacheMetrics::new(model) })
        };
        Self((capacity_bytes > 0).then(inner))
    }

    /// Returns the cached answer for `key`.
    #[must_use]
    pub fn get(&self, key: AnswerKey) -> Option<RowOutput> {
        let Inner { answers, metrics } = &**self.0.as_ref()?;
        let answer = answers.get(&key);
        metrics.record_lookup(answer.is_some());
        answer
    }

    /// Stores the answer for `key`, unless it is larger than the cache.
    pub fn insert(&self, key: AnswerKey, answer: &RowOutput) {
        let Some(inner) = &self.0 else { return };
        inner.answers.insert(key, answer.clone());
        inner.update_metrics();
    }

    /// Removes all answers.
    pub fn clear(&self) {
        let Some(inner) = &self.0 else { return };
        inner.answers.clear();
        inner.update_metrics();
    }
}

impl Inner {
    fn update_metrics(&self) {
        self.metrics.set_size(self.answers.weight(), self.answers.len());
    }
}

#[cfg(test)]
mod tests {
    use blip::MatchScores;
    use proptest::prelude::*;

    use super::*;

    fn cache(capacity_bytes: usize) -> AnswerCache {
        AnswerCache::new(capacity_bytes, &"model".into())
    }

    fn key(image: u8, question: u8) -> AnswerKey {
        AnswerKey::new(ImageDigest([image; 32]), [question; 32])
    }

    fn words(token_ids: &[i64]) -> RowOutput {
        Sequence { token_ids: token_ids.to_vec(), score: -0.5, margin: 1.0 }.into()
    }

    fn size(cache: &AnswerCache) -> (u64, usize) {
        let inner = cache.0.as_ref().unwrap();
        (inner.answers.weight(), inner.answers.len())
    }

    #[test]
    fn answer_is_found_by_image_and_question() {
        let cache = cache(1 << 20);
        cache.insert(key(1, 2), &words(&[7, 3]));
        assert_eq!(cache.get(key(1, 2)), Some(words(&[7, 3])));
        for other in [key(2, 1), key(1, 1), key(2, 2)] {
            assert_eq!(cache.get(other), None);
        }
    }

    #[test]
    fn cache_without_capacity_is_always_empty() {
        for cache in [cache(0), AnswerCache::default()] {
            cache.insert(key(1, 2), &words(&[7]));
            assert_eq!(cache.get(key(1, 2)), None);
        }
    }

    #[test]
    fn clones_share_entries_and_clear_empties_all() {
        let cache = cache(1 << 20);
        cache.clone().insert(key(1, 2), &words(&[7]));
        assert!(cache.get(key(1, 2)).is_some());
        cache.clone().clear();
        assert_eq!((cache.get(key(1, 2)), size(&cache)), (None, (0, 0)));
    }

    #[test]
    fn answer_larger_than_the_cache_is_not_stored() {
        let cache = cache(1000);
        cache.insert(key(1, 2), &RowOutput::Embedding(vec![0.5; 1000]));
        assert_eq!((cache.get(key(1, 2)), size(&cache)), (None, (0, 0)));
    }

    #[test]
    fn heap_bytes_counts_all_allocations() {
        let scores = RowOutput::Matched(MatchScores { logits: [0.0, 1.0], cosine: 0.5 });
        assert_eq!(heap_bytes(&scores), 0);
        assert!(heap_bytes(&RowOutput::Embedding(vec![0.5; 256])) >= 256 * 4);
        let map = AttentionMap { rows: 24, columns: 24, weights: vec![0.0; 576] };
        let explained = RowOutput::Explained(Box::new((words(&[7, 3]), map)));
        assert!(heap_bytes(&explained) >= heap_bytes(&words(&[7, 3])) + size_of::<RowOutput>() + 576 * 4);
        let of_three = |tokens: usize| {
            let sequence = Sequence { token_ids: vec![7; tokens], ..Sequence::default() };
            heap_bytes(&RowOutput::Generated(vec![sequence; 3]))
        };
        assert_eq!(of_three(20) - of_three(10), 3 * 10 * 8);
    }

    #[test]
    fn weight_is_an_upper_bound_of_used_memory() {
        let cache = cache(1 << 20);
        for number in 0..20_000_u64 {
            let digest = digest(number);
            cache.insert(AnswerKey::new(ImageDigest(digest), digest), &words(&[7, 3]));
            if number > 1000 && number % 100 == 0 {
                let tables = cache.0.as_ref().unwrap().answers.memory_used();
                let (bytes, answers) = size(&cache);
                // The table of entries may just have doubled.
                let used = 2 * tables.entries + tables.map + answers * heap_bytes(&words(&[7, 3]));
                assert!(used as u64 <= bytes, "{used} of {bytes} bytes with {answers} answers");
            }
        }
    }

    fn digest(number: u64) -> [u8; 32] {
        images::ImageDigest::of(&number.to_le_bytes()).0
    }

    fn any_answer() -> impl Strategy<Value = RowOutput> {
        prop_oneof![
            proptest::collection::vec(0_i64..99, 0..30).prop_map(|ids| words(&ids)),
            proptest::collection::vec(any::<f32>(), 0..300).prop_map(RowOutput::Embedding),
            Just(RowOutput::Matched(MatchScores { logits: [0.0, 1.0], cosine: 0.5 })),
        ]
    }

    proptest! {
        #[test]
        fn cache_stays_within_capacity_and_returns_the_latest_answer(
            capacity_bytes in 1_usize..20_000,
            inserted in proptest::collection::vec((0_u8..5, 0_u8..5, any_answer()), 0..100),
        ) {
            let cache = cache(capacity_bytes);
            let mut last = std::collections::HashMap::new();
            for (image, question, answer) in inserted {
                cache.insert(key(image, question), &answer);
                prop_assert!(size(&cache).0 <= capacity_bytes as u64);
                last.insert((image, question), format!("{answer:?}"));
            }
            for image in 0..5 {
                for question in 0..5 {
                    // NaN is not equal to itself, so the texts are compared.
                    if let Some(found) = cache.get(key(image, question)) {
                        prop_assert_eq!(Some(&format!("{found:?}")), last.get(&(image, question)));
                    }
                }
            }
        }
    }
}
