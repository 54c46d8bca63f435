//! ROUGE-L of one caption (Lin 2004).

/// Weight of recall relative to precision.
const BETA: f64 = 1.2;

/// Returns ROUGE-L of a caption, or `None` without references.
///
/// The best precision and the best recall may be those of different references. Words are divided
/// by spaces only, and a caption without words counts as one empty word, as in the reference.
pub(crate) fn rouge_l(caption: &str, references: &[String]) -> Option<f64> {
    let caption: Vec<&str> = caption.split(' ').collect();
    let (mut precision, mut recall) = (None, None);
    for reference in references {
        let reference: Vec<&str> = reference.split(' ').collect();
        let common = longest_common_subsequence(&caption, &reference);
        let share = |words: &[&str]| f64::from(common) / words.len().max(1) as f64;
        precision = Some(share(&caption).max(precision.unwrap_or(0.0)));
        recall = Some(share(&reference).max(recall.unwrap_or(0.0)));
    }
    let (precision, recall) = (precision?, recall?);
    if precision == 0.0 || recall == 0.0 {
        return Some(0.0);
    }
    let square = BETA * BETA;
    Some((1.0 + square) * precision * recall / (recall + square * precision))
}

/// Returns the length of the longest common subsequence of two texts.
fn longest_common_subsequence(left: &[&str], right: &[&str]) -> u32 {
    // The lengths for the words of `left` so far and each beginning of `right`.
    let mut lengths = vec![0_u32; right.len() + 1];
    for word in left {
        let mut diagonal = 0;
        let mut previous = 0;
        for (length, other) in lengths.iter_mut().skip(1).zip(right) {
            let above = *length;
            *length = if word == other { diagonal + 1 } else { above.max(previous) };
            diagonal = above;
            previous = *length;
        }
    }
    lengths.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn precision_and_recall_are_weighted() {
        let references = ["a b c d".to_owned()];
        // Precision 2/3, recall 2/4.
        let expected = (1.0 + 1.44) * (2.0 / 3.0) * 0.5 / (0.5 + 1.44 * (2.0 / 3.0));
        assert!((rouge_l("a x c", &references).unwrap() - expected).abs() < 1e-12);
        assert_eq!(rouge_l("x", &references), Some(0.0));
        assert_eq!(rouge_l("x", &[]), None);
    }

    proptest! {
        #[test]
        fn subsequence_is_symmetric_and_bounded(left in "[abc ]{0,12}", right in "[abc ]{0,12}") {
            let (left, right): (Vec<_>, Vec<_>) = (left.split(' ').collect(), right.split(' ').collect());
            let length = longest_common_subsequence(&left, &right);
            prop_assert_eq!(length, longest_common_subsequence(&right, &left));
            prop_assert!(length as usize <= left.len().min(right.len()));
            prop_assert_eq!(longest_common_subsequence(&left, &left) as usize, left.len());
        }
    }
}
