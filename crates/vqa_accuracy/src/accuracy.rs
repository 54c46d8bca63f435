//! One question: how many people gave the model's answer.

use crate::normalise;

/// The share of a point that `answer` earns, 0 to 1, beside the answers that people gave; `None` if nobody gave one.
///
/// An answer that three people gave is right; fewer give a third each. That is computed ten times over ten answers, each
/// time without one person's, and averaged: 0, 1, 2, 3 and 4 equal answers of ten give 0, 0.3, 0.6, 0.9 and 1.
///
/// People's answers have their punctuation evened out only where they disagree, and their number words never: as in the
/// original, whose data set holds them in that form already.
#[must_use]
pub fn accuracy(answer: &str, people: &[impl AsRef<str>]) -> Option<f64> {
    let answer = normalise::answer(answer);
    let first = people.first()?.as_ref();
    let agree = people.iter().all(|other| other.as_ref() == first);
    let same = |person: &str| {
        if agree { person == answer } else { normalise::punctuation(person) == answer }
    };
    let same: Vec<bool> = people.iter().map(|person| same(person.as_ref())).collect();
    let matching = same.iter().filter(|same| **same).count();
    // Summed one by one, as the original does, so that the last digit is the same.
    let sum: f64 = same.iter().map(|own| point(matching - usize::from(*own))).sum();
    Some(sum / count(people.len()))
}

fn point(matching: usize) -> f64 {
    (count(matching) / 3.0).min(1.0)
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ten(same: usize, answer: &str) -> Vec<String> {
        (0..10).map(|at| if at < same { answer.to_owned() } else { format!("other {at}") }).collect()
    }

    fn assert_near(given: Option<f64>, wanted: f64) {
        assert!(given.is_some_and(|given| (given - wanted).abs() < 1e-12), "{given:?} is not {wanted}");
    }

    #[test]
    fn each_of_the_first_four_people_who_agree_counts_as_published() {
        for (same, wanted) in [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)] {
            assert_near(accuracy("red", &ten(same, "red")), wanted);
        }
    }

    #[test]
    fn the_models_answer_is_evened_out_and_peoples_punctuation_where_they_disagree() {
        assert_near(accuracy("Two.", &ten(10, "2")), 1.0);
        assert_near(accuracy("black white", &ten(5, "black/white")), 1.0);
        // They all say the same, so what they say is taken as it is.
        assert_near(accuracy("black/white", &ten(10, "black/white")), 0.0);
        // Number words of people are not evened out.
        assert_near(accuracy("two", &ten(5, "two")), 0.0);
    }

    #[test]
    fn nobodys_answer_is_no_accuracy() {
        assert_eq!(accuracy("red", &[] as &[&str]), None);
    }

    proptest! {
        #[test]
        fn ten_people_give_one_of_five_accuracies(people in prop::collection::vec("[abc]{1,2}", 10), answer in "[abc]{1,2}") {
            let given = accuracy(&answer, &people).unwrap();
            prop_assert!([0.0, 0.3, 0.6, 0.9, 1.0].iter().any(|value| (value - given).abs() < 1e-12), "{given}");
        }

        #[test]
        fn the_order_of_people_does_not_matter(mut people in prop::collection::vec("[bc]", 10), answer in "[bc]") {
            let given = accuracy(&answer, &people).unwrap();
            people.reverse();
            prop_assert!((accuracy(&answer, &people).unwrap() - given).abs() < 1e-12);
        }

        #[test]
        fn one_more_person_who_agrees_never_takes_a_point_away(same in 0_usize..10) {
            prop_assert!(accuracy("red", &ten(same, "red")) <= accuracy("red", &ten(same + 1, "red")));
        }
    }
}
