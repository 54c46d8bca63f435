//! BLEU over a corpus (Papineni et al. 2002).

use std::collections::HashMap;

use crate::ngrams::{MAX_LENGTH, count_ngrams};

/// Added to counts, so that no quotient is undefined. The values are those of the reference.
const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// The counts of a corpus from which BLEU is computed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BleuCounts {
    words: f64,
    /// The sum of the reference lengths that are closest to the lengths of the captions.
    reference_words: f64,
    /// N-grams of captions, by length.
    ngrams: [f64; MAX_LENGTH],
    /// N-grams of captions that a reference has, too.
    correct: [f64; MAX_LENGTH],
}

impl BleuCounts {
    /// Adds a caption and its references.
    pub(crate) fn add(&mut self, caption: &str, references: &[String]) {
        let words: Vec<&str> = caption.split_whitespace().collect();
        let references: Vec<Vec<&str>> =
            references.iter().map(|reference| reference.split_whitespace().collect()).collect();
        // Of two references at the same distance, the shorter one counts.
        let closest =
            references.iter().map(Vec::len).min_by_key(|length| (length.abs_diff(words.len()), *length));
        self.words += to_f64(words.len());
        self.reference_words += to_f64(closest.unwrap_or_default());
        let counts: Vec<_> = references.iter().map(|words| count_ngrams(words)).collect();
        for (order, found) in count_ngrams(&words).iter().enumerate() {
            let mut limits: HashMap<&[&str], u32> = HashMap::new();
            for (ngram, count) in counts.iter().filter_map(|counts| counts.get(order)).flatten() {
                let limit = limits.entry(ngram).or_default();
                *limit = (*limit).max(*count);
            }
            let correct: u32 = found
                .iter()
                .map(|(ngram, count)| limits.get(ngram.as_slice()).map_or(0, |limit| *limit.min(count)))
                .sum();
            if let (Some(all), Some(sum)) = (self.ngrams.get_mut(order), self.correct.get_mut(order)) {
                *all += to_f64(words.len().saturating_sub(order));
                *sum += f64::from(correct);
            }
        }
    }

    /// Returns BLEU-1 to BLEU-4.
    pub(crate) fn scores(&self) -> [f64; MAX_LENGTH] {
        let ratio = (self.words + TINY) / (self.reference_words + SMALL);
        let brevity_penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let (mut product, mut order) = (1.0, 0.0);
        let mut precisions = self.correct.iter().zip(&self.ngrams);
        std::array::from_fn(|_| {
            if let Some((correct, ngrams)) = precisions.next() {
                product *= (correct + TINY) / (ngrams + SMALL);
            }
            order += 1.0;
            product.powf(1.0 / order) * brevity_penalty
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "captions have far fewer than 2^52 words")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(caption: &str, references: &[&str]) -> [f64; MAX_LENGTH] {
        let mut counts = BleuCounts::default();
        let references: Vec<String> = references.iter().map(|&text| text.to_owned()).collect();
        counts.add(caption, &references);
        counts.scores()
    }

    #[test]
    fn ngram_counts_at_most_as_often_as_in_a_reference() {
        let [unigrams, ..] = scores("the the the the", &["the cat sat down", "a the the cat"]);
        assert!((unigrams - 0.5).abs() < 1e-6, "{unigrams}");
    }

    #[test]
    fn short_caption_has_brevity_penalty() {
        let [unigrams, bigrams, ..] = scores("a cat", &["a cat sat down"]);
        assert!((unigrams - (-1.0_f64).exp()).abs() < 1e-6, "{unigrams}");
        assert!((bigrams - unigrams).abs() < 1e-6, "{bigrams}");
        let [longer, ..] = scores("a cat", &["a cat sat down", "a b"]);
        assert!((longer - 1.0).abs() < 1e-6, "{longer}");
    }
}
