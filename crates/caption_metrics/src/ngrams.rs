//! Counts of n-grams.

use std::collections::HashMap;

/// Length of the longest n-gram of BLEU and CIDEr-D.
pub(crate) const MAX_LENGTH: usize = 4;

/// The number of each n-gram of a text. The order of two is index 1.
pub(crate) type NgramCounts<'a> = [HashMap<Vec<&'a str>, u32>; MAX_LENGTH];

/// Counts the n-grams of `words` with 1 to [`MAX_LENGTH`] words.
pub(crate) fn count_ngrams<'a>(words: &[&'a str]) -> NgramCounts<'a> {
    let mut counts = NgramCounts::default();
    for (count, length) in counts.iter_mut().zip(1..) {
        for ngram in words.windows(length) {
            *count.entry(ngram.to_vec()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_ngrams_are_counted() {
        let counts = count_ngrams(&["a", "b", "a", "b"]);
        assert_eq!(counts[0][&vec!["a"]], 2);
        assert_eq!(counts[1][&vec!["a", "b"]], 2);
        assert_eq!(counts[1][&vec!["b", "a"]], 1);
        assert_eq!(counts[3].len(), 1);
        assert!(count_ngrams(&[]).iter().all(HashMap::is_empty));
    }
}
