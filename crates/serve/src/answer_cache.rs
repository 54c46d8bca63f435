//! Answers that were computed, kept by the digest of the image's file and that of the question with all that was wanted: what
//! is asked again word for word is not computed again.
//!
//! An answer is kept as the engine gave it, without its times, and put into words anew for each who asks.

use std::sync::Arc;

use blip::{RankedCandidate, RowOutput, Sequence};
use quick_cache::{Weighter, sync::Cache};
use scheduler::ImageKey;

use crate::monitor::KeptAnswers;

/// What an entry takes beside itself and what it points to, in bytes, generously counted: its places in the cache's tables, which
/// grow by doubling, and what is remembered of those that had to go.
const OVERHEAD_BYTES: usize = 288;

/// What the allocator keeps beside each piece of memory, in bytes.
const ALLOCATION_BYTES: usize = 16;

/// What an answer of one word takes, in bytes.
const USUAL_BYTES: usize = 400;

/// What an answer is the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    image: [u8; 32],
    question: [u8; 32],
}

impl Pair {
    /// The image of this key with the question of that one, which stands for all that is wanted, too.
    #[must_use]
    pub fn new(image: ImageKey, question: [u8; 32]) -> Self {
        Self { image: image.0, question }
    }
}

/// A bounded number of bytes of one model's answers; those asked for seldom go first. Clones are the same. By default, none
/// is kept.
#[derive(Clone, Debug, Default)]
pub struct AnswerCache(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    answers: Cache<Pair, RowOutput, Bytes>,
    meters: KeptAnswers,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Pair, RowOutput> for Bytes {
    fn weight(&self, _: &Pair, answer: &RowOutput) -> u64 {
        (size_of::<Pair>() + size_of::<RowOutput>() + OVERHEAD_BYTES + pointed_to(answer)) as u64
    }
}

/// Memory that an answer points to, in bytes.
fn pointed_to(answer: &RowOutput) -> usize {
    match answer {
        RowOutput::Generated(sequences) => {
            let tokens = |sequence: &Sequence| allocated::<i64>(sequence.token_ids.capacity());
            allocated::<Sequence>(sequences.capacity()) + sequences.iter().map(tokens).sum::<usize>()
        }
        RowOutput::Ranked(candidates) => allocated::<RankedCandidate>(candidates.capacity()),
        RowOutput::Embedding(values) => allocated::<f32>(values.capacity()),
        RowOutput::Matched(_) => 0,
    }
}

fn allocated<T>(count: usize) -> usize {
    count * size_of::<T>() + ALLOCATION_BYTES
}

impl AnswerCache {
    /// A cache of at most `capacity_bytes` for the model of this name; of none, it keeps nothing.
    #[must_use]
    pub fn new(capacity_bytes: usize, model: &Arc<str>) -> Self {
        let kept = || {
            let answers =
                Cache::with_weighter(capacity_bytes.div_ceil(USUAL_BYTES), capacity_bytes as u64, Bytes);
            Arc::new(Kept { answers, meters: KeptAnswers::new(model) })
        };
        Self((capacity_bytes > 0).then(kept))
    }

    /// The answer to `pair`, if it is kept.
    #[must_use]
    pub fn get(&self, pair: Pair) -> Option<RowOutput> {
        let Kept { answers, meters } = &**self.0.as_ref()?;
        let answer = answers.get(&pair);
        meters.looked_up(answer.is_some());
        answer
    }

    /// Keeps `answer`, which was computed for `pair`, if there is room.
    pub fn keep(&self, pair: Pair, answer: &RowOutput) {
        let Some(kept) = &self.0 else { return };
        kept.answers.insert(pair, answer.clone());
        kept.tell();
    }

    /// Keeps none of the answers that are there.
    pub fn forget_all(&self) {
        let Some(kept) = &self.0 else { return };
        kept.answers.clear();
        kept.tell();
    }
}

impl Kept {
    fn tell(&self) {
        self.meters.hold(self.answers.weight(), self.answers.len());
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

    fn pair(image: u8, question: u8) -> Pair {
        Pair::new(ImageKey([image; 32]), [question; 32])
    }

    fn words(token_ids: &[i64]) -> RowOutput {
        Sequence { token_ids: token_ids.to_vec(), score: -0.5, margin: 1.0 }.into()
    }

    fn held(cache: &AnswerCache) -> (u64, usize) {
        let kept = cache.0.as_ref().unwrap();
        (kept.answers.weight(), kept.answers.len())
    }

    #[test]
    fn an_answer_is_found_by_its_image_and_its_question_together() {
        let cache = cache(1 << 20);
        cache.keep(pair(1, 2), &words(&[7, 3]));
        assert_eq!(cache.get(pair(1, 2)), Some(words(&[7, 3])));
        for other in [pair(2, 1), pair(1, 1), pair(2, 2)] {
            assert_eq!(cache.get(other), None);
        }
    }

    #[test]
    fn a_cache_of_no_bytes_keeps_nothing() {
        for cache in [cache(0), AnswerCache::default()] {
            cache.keep(pair(1, 2), &words(&[7]));
            assert_eq!(cache.get(pair(1, 2)), None);
        }
    }

    #[test]
    fn clones_are_the_same_and_what_is_forgotten_is_gone_for_all() {
        let cache = cache(1 << 20);
        cache.clone().keep(pair(1, 2), &words(&[7]));
        assert!(cache.get(pair(1, 2)).is_some());
        cache.clone().forget_all();
        assert_eq!((cache.get(pair(1, 2)), held(&cache)), (None, (0, 0)));
    }

    #[test]
    fn an_answer_larger_than_the_cache_is_not_kept() {
        let cache = cache(1000);
        cache.keep(pair(1, 2), &RowOutput::Embedding(vec![0.5; 1000]));
        assert_eq!((cache.get(pair(1, 2)), held(&cache)), (None, (0, 0)));
    }

    #[test]
    fn what_an_answer_points_to_is_counted() {
        let scores = RowOutput::Matched(MatchScores { logits: [0.0, 1.0], cosine: 0.5 });
        assert_eq!(pointed_to(&scores), 0);
        assert!(pointed_to(&RowOutput::Embedding(vec![0.5; 256])) >= 256 * 4);
        let of_three = |tokens: usize| {
            let sequence = Sequence { token_ids: vec![7; tokens], ..Sequence::default() };
            pointed_to(&RowOutput::Generated(vec![sequence; 3]))
        };
        assert_eq!(of_three(20) - of_three(10), 3 * 10 * 8);
    }

    #[test]
    fn no_more_memory_is_taken_than_is_counted() {
        let cache = cache(1 << 20);
        for number in 0..20_000_u64 {
            let digest = digest(number);
            cache.keep(Pair::new(ImageKey(digest), digest), &words(&[7, 3]));
            if number > 1000 && number % 100 == 0 {
                let tables = cache.0.as_ref().unwrap().answers.memory_used();
                let (bytes, answers) = held(&cache);
                // What holds the entries may just have grown to twice of what it holds.
                let taken = 2 * tables.entries + tables.map + answers * pointed_to(&words(&[7, 3]));
                assert!(taken as u64 <= bytes, "{taken} of {bytes} bytes with {answers} answers");
            }
        }
    }

    fn digest(number: u64) -> [u8; 32] {
        images::digest(&number.to_le_bytes()).0
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
        fn no_more_is_held_than_fits_and_what_is_found_is_what_was_kept_last(
            capacity_bytes in 1_usize..20_000,
            kept in proptest::collection::vec((0_u8..5, 0_u8..5, any_answer()), 0..100),
        ) {
            let cache = cache(capacity_bytes);
            let mut last = std::collections::HashMap::new();
            for (image, question, answer) in kept {
                cache.keep(pair(image, question), &answer);
                prop_assert!(held(&cache).0 <= capacity_bytes as u64);
                last.insert((image, question), format!("{answer:?}"));
            }
            for image in 0..5 {
                for question in 0..5 {
                    // Numbers that are none are not equal to themselves.
                    if let Some(found) = cache.get(pair(image, question)) {
                        prop_assert_eq!(Some(&format!("{found:?}")), last.get(&(image, question)));
                    }
                }
            }
        }
    }
}
