//! What counts as the same answer: punctuation, number words, articles and apostrophes are evened out.

use crate::contractions::spelled;

/// Marks that are taken out, in the order of the original.
const MARKS: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

/// Periods that are taken out of one answer at most. The original hands a flag (`re.UNICODE`, 32) to a parameter that is
/// a count.
const MOST_PERIODS: usize = 32;

/// A model's answer as it is compared: white space and punctuation, then number words, articles and contractions.
#[must_use]
pub fn answer(text: &str) -> String {
    words(&punctuation(&line(text)))
}

/// Tabs and line ends become spaces, and those around the text go.
fn line(text: &str) -> String {
    text.replace(['\n', '\t'], " ").trim().to_owned()
}

/// Takes punctuation out of `text`: to nothing where a mark stands beside a space anywhere in it, or where the text holds a
/// number with a comma; to a space otherwise. A period goes unless a digit follows.
#[must_use]
pub fn punctuation(text: &str) -> String {
    let comma_in_number = text.as_bytes().windows(3).any(
        |three| matches!(three, [before, b',', after] if before.is_ascii_digit() && after.is_ascii_digit()),
    );
    let mut kept = text.to_owned();
    for mark in MARKS {
        let beside_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        kept = kept.replace(mark, if beside_space || comma_in_number { "" } else { " " });
    }
    periods(&kept)
}

/// The original means to keep periods behind digits, too, but its expression does not say so.
fn periods(text: &str) -> String {
    let mut gone = 0;
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let number_follows = characters.peek().is_some_and(char::is_ascii_digit);
        if character == '.' && !number_follows && gone < MOST_PERIODS {
            gone += 1;
        } else {
            kept.push(character);
        }
    }
    kept
}

/// Lower-cases `text`, writes the numbers up to ten as digits, drops articles, and gives contractions their apostrophes.
#[must_use]
pub fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split_whitespace().map(digits).filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.map(spelled).collect::<Vec<_>>().join(" ")
}

fn digits(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn number_words_articles_and_apostrophes_are_evened_out() {
        assert_eq!(answer("Two"), "2");
        assert_eq!(answer(" the\tDog\n"), "dog");
        assert_eq!(answer("A man and an apple"), "man and apple");
        assert_eq!(answer("dont know"), "don't know");
        assert_eq!(answer("none"), "0");
        assert_eq!(answer("eleven"), "eleven");
    }

    #[test]
    fn a_mark_becomes_a_space_unless_it_stands_beside_one() {
        assert_eq!(punctuation("black/white"), "black white");
        assert_eq!(punctuation("black/ white"), "black white");
        assert_eq!(punctuation("yes!"), "yes ");
        assert_eq!(punctuation("t-shirt"), "t shirt");
        // One mark beside a space decides for all of its kind.
        assert_eq!(punctuation("a-b - c"), "ab  c");
    }

    #[test]
    fn a_number_with_a_comma_takes_every_mark_to_nothing() {
        assert_eq!(punctuation("1,000"), "1000");
        assert_eq!(punctuation("1,000/day"), "1000day");
        assert_eq!(punctuation("1,a"), "1 a");
    }

    #[test]
    fn a_period_stays_only_before_a_digit() {
        assert_eq!(punctuation("3.5"), "3.5");
        assert_eq!(punctuation("5 p.m."), "5 pm");
        assert_eq!(punctuation("5."), "5");
        assert_eq!(punctuation("no.5"), "no.5");
    }

    #[test]
    fn the_33rd_period_stays() {
        assert_eq!(punctuation(&".".repeat(40)), ".".repeat(8));
    }

    proptest! {
        #[test]
        fn a_normal_answer_has_no_capitals_no_doubled_spaces_and_no_articles(text in ".{0,60}") {
            let normal = answer(&text);
            prop_assert_eq!(&normal, &normal.to_lowercase());
            prop_assert!(!normal.contains("  ") && normal.trim() == normal);
            prop_assert!(normal.split(' ').all(|word| !["a", "an", "the"].contains(&word)));
        }

        #[test]
        fn plain_lower_case_words_stay_as_they_are(text in "[b-m]{2,8}( [b-m]{2,8}){0,3}") {
            prop_assume!(text.split(' ').all(|word| digits(word) == word && spelled(word) == word));
            prop_assert_eq!(answer(&text), text);
        }
    }
}
