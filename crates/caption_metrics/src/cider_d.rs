//! CIDEr-D (Vedantam et al. 2015): agreement with references, weighted by how rare n-grams are.

use std::collections::{HashMap, HashSet};

use crate::ngrams::{MAX_LENGTH, NgramCounts, count_ngrams};

/// Standard deviation of the penalty on the difference of lengths.
const SIGMA: f64 = 6.0;

/// The number of images whose references have an n-gram.
#[derive(Debug, Default)]
pub(crate) struct DocumentFrequency<'a> {
    images: f64,
    frequency: HashMap<Vec<&'a str>, f64>,
}

impl<'a> DocumentFrequency<'a> {
    /// Adds the references of an image.
    pub(crate) fn add(&mut self, references: &'a [String]) {
        self.images += 1.0;
        let mut ngrams = HashSet::new();
        for reference in references {
            ngrams.extend(count_text(reference).into_iter().flat_map(HashMap::into_keys));
        }
        for ngram in ngrams {
            *self.frequency.entry(ngram).or_default() += 1.0;
        }
    }

    /// Returns CIDEr-D of a caption, from 0 to 10. Without references it is 0.
    pub(crate) fn score(&self, caption: &str, references: &[String]) -> f64 {
        let caption = self.vector(caption);
        let similarities = references.iter().map(|reference| caption.similarity(&self.vector(reference)));
        10.0 * similarities.sum::<f64>() / (references.len().max(1) * MAX_LENGTH) as f64
    }

    fn vector<'t>(&self, text: &'t str) -> WeightVector<'t> {
        let counts = count_text(text);
        // The reference takes the number of bigrams as the length.
        let length = counts.get(1).map_or(0, |bigrams| bigrams.values().sum());
        let weights = counts.map(|counts| {
            let weigh = |(ngram, count)| {
                let frequency = self.frequency.get(&ngram).copied().unwrap_or_default().max(1.0);
                (ngram, f64::from(count) * (self.images.ln() - frequency.ln()))
            };
            counts.into_iter().map(weigh).collect::<HashMap<_, _>>()
        });
        let norms = std::array::from_fn(|order| {
            let weights = weights.get(order).into_iter().flat_map(HashMap::values);
            weights.map(|weight| weight * weight).sum::<f64>().sqrt()
        });
        WeightVector { weights, norms, length: f64::from(length) }
    }
}

fn count_text(text: &str) -> NgramCounts<'_> {
    count_ngrams(&text.split_whitespace().collect::<Vec<_>>())
}

/// The weight of each n-gram of a text: its count times its inverse document frequency.
#[derive(Debug)]
struct WeightVector<'a> {
    weights: [HashMap<Vec<&'a str>, f64>; MAX_LENGTH],
    norms: [f64; MAX_LENGTH],
    length: f64,
}

impl WeightVector<'_> {
    /// Returns the sum of the clipped cosines of all lengths of n-grams, with the penalty.
    fn similarity(&self, reference: &WeightVector<'_>) -> f64 {
        let difference = self.length - reference.length;
        let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let orders = self.weights.iter().zip(&reference.weights);
        let norms = self.norms.iter().zip(&reference.norms);
        let cosine = |((weights, others), (norm, other_norm)): (_, (&f64, &f64))| {
            let (weights, others): (&HashMap<_, f64>, &HashMap<_, f64>) = (weights, others);
            let product: f64 = weights
                .iter()
                .filter_map(|(ngram, weight)| others.get(ngram).map(|other| weight.min(*other) * other))
                .sum();
            let norm = norm * other_norm;
            if norm == 0.0 { product } else { product / norm }
        };
        orders.zip(norms).map(cosine).sum::<f64>() * penalty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_caption_of_rare_words_scores_ten() {
        let images = [["a cat sat down here".to_owned()], ["two dogs ran over grass".to_owned()]];
        let mut frequency = DocumentFrequency::default();
        images.iter().for_each(|references| frequency.add(references));
        assert!((frequency.score("a cat sat down here", &images[0]) - 10.0).abs() < 1e-9);
        assert!(frequency.score("two dogs ran over grass", &images[0]).abs() < 1e-9);
    }

    #[test]
    fn words_of_every_image_have_no_weight() {
        let images = [["the cat".to_owned()], ["the dog".to_owned()]];
        let mut frequency = DocumentFrequency::default();
        images.iter().for_each(|references| frequency.add(references));
        assert!(frequency.score("the", &images[0]).abs() < 1e-9);
        assert!(frequency.score("cat", &images[0]) > 1.0);
    }
}
