//! The accuracy of the answer to one question.

use crate::normalise::{normalise_answer, strip_punctuation};

/// Returns the accuracy of `answer`, 0 to 1, or `None` without human answers.
///
/// An answer that at least three people gave is fully correct. Fewer people count a third each. The
/// metric leaves out each person once and averages the results. With ten people, 0, 1, 2, 3 and 4
/// equal answers give 0, 0.3, 0.6, 0.9 and 1.
///
/// The function normalises the punctuation of human answers only where they differ, and never their
/// number words. The official program does the same, because its data set holds them in that form.
#[must_use]
pub fn answer_accuracy(answer: &str, human_answers: &[impl AsRef<str>]) -> Option<f64> {
    let answer = normalise_answer(answer);
    let first = human_answers.first()?.as_ref();
    let all_agree = human_answers.iter().all(|other| other.as_ref() == first);
    let is_match = |human_answer: &str| {
        if all_agree { human_answer == answer } else { strip_punctuation(human_answer) == answer }
    };
    let matches: Vec<bool> = human_answers.iter().map(|other| is_match(other.as_ref())).collect();
    let count = matches.iter().filter(|is_match| **is_match).count();
    // Summed in the order of the official program, so that the last digit is equal.
    let sum: f64 = matches.iter().map(|is_match| score(count - usize::from(*is_match))).sum();
    Some(sum / to_f64(human_answers.len()))
}

/// Returns the score for `matches` equal answers of other people.
fn score(matches: usize) -> f64 {
    (to_f64(matches) / 3.0).min(1.0)
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns ten human answers, of which `equal` are `answer`.
    fn ten_answers(equal: usize, answer: &str) -> Vec<String> {
        (0..10)
            .map(|index| if index < equal { answer.to_owned() } else { format!("other {index}") })
            .collect()
    }

    fn assert_near(actual: Option<f64>, expected: f64) {
        assert!(
            actual.is_some_and(|actual| (actual - expected).abs() < 1e-12),
            "{actual:?} is not {expected}"
        );
    }

    #[test]
    fn first_four_equal_answers_score_as_published() {
        for (equal, expected) in [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)] {
            assert_near(answer_accuracy("red", &ten_answers(equal, "red")), expected);
        }
    }

    #[test]
    fn human_punctuation_is_normalised_only_if_answers_differ() {
        assert_near(answer_accuracy("Two.", &ten_answers(10, "2")), 1.0);
        assert_near(answer_accuracy("black white", &ten_answers(5, "black/white")), 1.0);
        // All human answers are equal, so they are compared as they are.
        assert_near(answer_accuracy("black/white", &ten_answers(10, "black/white")), 0.0);
        // The number words of human answers are not normalised.
        assert_near(answer_accuracy("two", &ten_answers(5, "two")), 0.0);
    }

    #[test]
    fn accuracy_without_human_answers_is_none() {
        assert_eq!(answer_accuracy("red", &[] as &[&str]), None);
    }

    proptest! {
        #[test]
        fn ten_human_answers_give_one_of_five_accuracies(
            human_answers in prop::collection::vec("[abc]{1,2}", 10),
            answer in "[abc]{1,2}",
        ) {
            let accuracy = answer_accuracy(&answer, &human_answers).unwrap();
            let expected = [0.0, 0.3, 0.6, 0.9, 1.0];
            prop_assert!(expected.iter().any(|value| (value - accuracy).abs() < 1e-12), "{accuracy}");
        }

        #[test]
        fn order_of_human_answers_does_not_matter(
            mut human_answers in prop::collection::vec("[bc]", 10),
            answer in "[bc]",
        ) {
            let accuracy = answer_accuracy(&answer, &human_answers).unwrap();
            human_answers.reverse();
            prop_assert!((answer_accuracy(&answer, &human_answers).unwrap() - accuracy).abs() < 1e-12);
        }

        #[test]
        fn another_equal_answer_never_lowers_accuracy(equal in 0_usize..10) {
            let accuracy = answer_accuracy("red", &ten_answers(equal, "red"));
            prop_assert!(accuracy <= answer_accuracy("red", &ten_answers(equal + 1, "red")));
        }
    }
}
