//! Candidates by cosine, and ranks by score. Pure computation.

use std::{cmp::Ordering, collections::HashMap};

/// The logits of pairs of an image and a text.
pub(crate) type PairLogits = HashMap<(usize, usize), f32>;

/// An index with its cosine or score.
pub(crate) type Scored = (usize, f32);

/// The candidates of each image and of each text.
#[derive(Debug, PartialEq)]
pub(crate) struct Similarities {
    /// For each image, the texts with the highest cosines.
    pub(crate) texts_of_images: Vec<Vec<Scored>>,
    /// For each text, the images with the highest cosines.
    pub(crate) images_of_texts: Vec<Vec<Scored>>,
}

impl Similarities {
    /// Selects at most `k` candidates for each embedding of an image and of a text.
    pub(crate) fn new(images: &[Vec<f32>], texts: &[Vec<f32>], k: usize) -> Self {
        let select = |from: &[Vec<f32>], to: &[Vec<f32>]| -> Vec<Vec<Scored>> {
            from.iter().map(|vector| nearest(vector, to, k)).collect()
        };
        Self { texts_of_images: select(images, texts), images_of_texts: select(texts, images) }
    }

    /// Returns the texts that each image is matched with: its candidates, and those texts that
    /// have the image as a candidate. They are in ascending order.
    pub(crate) fn pairs(&self) -> Vec<Vec<usize>> {
        let mut pairs: Vec<Vec<usize>> =
            self.texts_of_images.iter().map(|texts| texts.iter().map(|(text, _)| *text).collect()).collect();
        for (text, images) in self.images_of_texts.iter().enumerate() {
            for (image, _) in images {
                if let Some(texts) = pairs.get_mut(*image) {
                    texts.push(text);
                }
            }
        }
        for texts in &mut pairs {
            texts.sort_unstable();
            texts.dedup();
        }
        pairs
    }
}

fn nearest(vector: &[f32], others: &[Vec<f32>], k: usize) -> Vec<Scored> {
    let cosine = |other: &Vec<f32>| vector.iter().zip(other).map(|(left, right)| left * right).sum();
    let mut scored: Vec<Scored> = others.iter().map(cosine).enumerate().collect();
    if k < scored.len() {
        scored.select_nth_unstable_by(k, best_first);
        scored.truncate(k);
    }
    scored.sort_unstable_by(best_first);
    scored
}

/// Orders by score, and equal scores by index.
fn best_first(left: &Scored, right: &Scored) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

/// Orders candidates by the sum of their cosine and their logit. Candidates without a logit are
/// left out.
pub(crate) fn rerank(candidates: &[Scored], logit: impl Fn(usize) -> Option<f32>) -> Vec<Scored> {
    let mut scored: Vec<Scored> =
        candidates.iter().filter_map(|(index, cosine)| Some((*index, cosine + logit(*index)?))).collect();
    scored.sort_unstable_by(best_first);
    scored
}

/// Counts of queries whose first correct candidate is among the first 1, 5 and 10.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecallCounts {
    queries: u32,
    found: [u32; 3],
}

/// The numbers of candidates at which recall is measured.
pub(crate) const RECALL_AT: [usize; 3] = [1, 5, 10];

impl RecallCounts {
    /// Adds a query. A correct candidate that is not among `ranked` counts as not found.
    pub(crate) fn add(&mut self, ranked: &[Scored], is_correct: impl Fn(usize) -> bool) {
        self.queries += 1;
        let rank = ranked.iter().position(|(index, _)| is_correct(*index));
        for (found, at) in self.found.iter_mut().zip(RECALL_AT) {
            *found += u32::from(rank.is_some_and(|rank| rank < at));
        }
    }

    /// Returns recall in percent at each of [`RECALL_AT`], or 0 without queries.
    pub(crate) fn percent(&self) -> [f64; 3] {
        self.found.map(|found| 100.0 * f64::from(found) / f64::from(self.queries.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// `tests/reference/generate/retrieval_goldens.py` writes the goldens.
    #[test]
    fn recall_matches_reference() {
        let goldens: Value = serde_json::from_str(include_str!("golden_recall.json")).unwrap();
        let matrix = |value: &Value| -> Vec<Vec<f32>> { serde_json::from_value(value.clone()).unwrap() };
        for case in goldens.as_array().unwrap() {
            let (images, texts) = (matrix(&case["images"]), matrix(&case["texts"]));
            let logits = matrix(&case["logits"]);
            let owner: Vec<usize> = serde_json::from_value(case["image_of_text"].clone()).unwrap();
            let k: usize = serde_json::from_value(case["k"].clone()).unwrap();
            let similarities = Similarities::new(&images, &texts, k);
            let pairs = similarities.pairs();
            let (mut of_images, mut of_texts) = (RecallCounts::default(), RecallCounts::default());
            for (image, texts) in similarities.texts_of_images.iter().enumerate() {
                assert!(texts.iter().all(|(text, _)| pairs[image].contains(text)));
                let ranked = rerank(texts, |text| Some(logits[image][text]));
                of_images.add(&ranked, |text| owner[text] == image);
            }
            for (text, images) in similarities.images_of_texts.iter().enumerate() {
                assert!(images.iter().all(|(image, _)| pairs[*image].contains(&text)));
                let ranked = rerank(images, |image| Some(logits[image][text]));
                of_texts.add(&ranked, |image| owner[text] == image);
            }
            for (counts, name) in [(of_images, "image_to_text"), (of_texts, "text_to_image")] {
                for (percent, expected) in counts.percent().iter().zip(case[name].as_array().unwrap()) {
                    assert!((percent - expected.as_f64().unwrap()).abs() < 1e-9, "{name} with k {k}");
                }
            }
        }
    }

    #[test]
    fn equal_scores_rank_by_index() {
        let vectors = [vec![1.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]];
        assert_eq!(nearest(&[1.0, 0.0], &vectors, 2), [(0, 1.0), (1, 1.0)]);
        let ranked = rerank(&[(0, 1.0), (2, 0.5), (1, 0.5)], |index| (index > 0).then_some(1.0));
        assert_eq!(ranked, [(1, 1.5), (2, 1.5)]);
    }

    proptest! {
        #[test]
        fn candidates_are_the_k_nearest(
            vector in proptest::collection::vec(-1.0_f32..1.0, 3),
            others in proptest::collection::vec(proptest::collection::vec(-1.0_f32..1.0, 3), 0..20),
            k in 1_usize..25,
        ) {
            let found = nearest(&vector, &others, k);
            prop_assert_eq!(found.len(), k.min(others.len()));
            prop_assert!(found.windows(2).all(|two| two[0].1 >= two[1].1));
            let worst = found.last().map_or(f32::INFINITY, |(_, cosine)| *cosine);
            let all = nearest(&vector, &others, others.len());
            prop_assert!(all.iter().skip(k).all(|(_, cosine)| *cosine <= worst));
        }

        #[test]
        fn recall_grows_with_the_number_of_candidates(correct in proptest::collection::vec(0_usize..15, 1..20)) {
            let ranked: Vec<Scored> = (0..12).map(|index| (index, -1.0)).collect();
            let mut counts = RecallCounts::default();
            correct.iter().for_each(|right| counts.add(&ranked, |index| index == *right));
            let [one, five, ten] = counts.percent();
            prop_assert!(one <= five && five <= ten && ten <= 100.0);
        }
    }
}
