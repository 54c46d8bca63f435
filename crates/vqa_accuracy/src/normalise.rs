//! Brings answers into the form in which they are compared: punctuation, number words, articles and
//! apostrophes.

use crate::contractions::restore_apostrophe;

/// Characters that are removed, in the order of the official program.
const PUNCTUATION: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

/// Maximum number of periods that are removed from an answer.
///
/// The official program passes the flag `re.UNICODE` (32) as a parameter that is a count.
const MAX_REMOVED_PERIODS: usize = 32;

/// Normalises the answer of a model: white space, punctuation, number words, articles,
/// contractions.
#[must_use]
pub(crate) fn normalise_answer(text: &str) -> String {
    normalise_words(&strip_punctuation(&strip_white_space(text)))
}

/// Replaces tabs and line ends by spaces and trims the text.
fn strip_white_space(text: &str) -> String {
    text.replace(['\n', '\t'], " ").trim().to_owned()
}

/// Removes the punctuation of `text`.
///
/// - A mark becomes a space.
/// - If a mark of the same kind is beside a space, or if the text holds a number with a comma, the
///   mark becomes nothing.
/// - A period becomes nothing unless a digit follows it.
#[must_use]
pub(crate) fn strip_punctuation(text: &str) -> String {
    let has_comma_in_number = text.as_bytes().windows(3).any(
        |three| matches!(three, [before, b',', after] if before.is_ascii_digit() && after.is_ascii_digit()),
    );
    let mut result = text.to_owned();
    for mark in PUNCTUATION {
        let beside_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        result = result.replace(mark, if beside_space || has_comma_in_number { "" } else { " " });
    }
    strip_periods(&result)
}

/// Removes periods that no digit follows.
///
/// The official program also intends to leave periods after a digit, but its expression does not.
fn strip_periods(text: &str) -> String {
    let mut removed = 0;
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let digit_follows = characters.peek().is_some_and(char::is_ascii_digit);
        if character == '.' && !digit_follows && removed < MAX_REMOVED_PERIODS {
            removed += 1;
        } else {
            result.push(character);
        }
    }
    result
}

/// Normalises the words of `text`.
///
/// The function lower-cases the text, writes the numbers up to ten as digits, removes articles, and
/// restores the apostrophes of contractions.
#[must_use]
pub(crate) fn normalise_words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split_whitespace().map(to_digits).filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.map(restore_apostrophe).collect::<Vec<_>>().join(" ")
}

/// Returns a number word up to ten as digits, and any other word unchanged.
fn to_digits(word: &str) -> &str {
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
    fn number_words_articles_and_contractions_are_normalised() {
        assert_eq!(normalise_answer("Two"), "2");
        assert_eq!(normalise_answer(" the\tDog\n"), "dog");
        assert_eq!(normalise_answer("A man and an apple"), "man and apple");
        assert_eq!(normalise_answer("dont know"), "don't know");
        assert_eq!(normalise_answer("none"), "0");
        assert_eq!(normalise_answer("eleven"), "eleven");
    }

    #[test]
    fn mark_becomes_space_unless_beside_a_space() {
        assert_eq!(strip_punctuation("black/white"), "black white");
        assert_eq!(strip_punctuation("black/ white"), "black white");
        assert_eq!(strip_punctuation("yes!"), "yes ");
        assert_eq!(strip_punctuation("t-shirt"), "t shirt");
        // One mark beside a space decides for all marks of its kind.
        assert_eq!(strip_punctuation("a-b - c"), "ab  c");
    }

    #[test]
    fn number_with_comma_removes_every_mark() {
        assert_eq!(strip_punctuation("1,000"), "1000");
        assert_eq!(strip_punctuation("1,000/day"), "1000day");
        assert_eq!(strip_punctuation("1,a"), "1 a");
    }

    #[test]
    fn period_stays_only_before_a_digit() {
        assert_eq!(strip_punctuation("3.5"), "3.5");
        assert_eq!(strip_punctuation("5 p.m."), "5 pm");
        assert_eq!(strip_punctuation("5."), "5");
        assert_eq!(strip_punctuation("no.5"), "no.5");
    }

    #[test]
    fn at_most_32_periods_are_removed() {
        assert_eq!(strip_punctuation(&".".repeat(40)), ".".repeat(8));
    }

    proptest! {
        #[test]
        fn normal_form_has_no_capitals_articles_or_double_spaces(text in ".{0,60}") {
            let normal = normalise_answer(&text);
            prop_assert_eq!(&normal, &normal.to_lowercase());
            prop_assert!(!normal.contains("  ") && normal.trim() == normal);
            prop_assert!(normal.split(' ').all(|word| !["a", "an", "the"].contains(&word)));
        }

        #[test]
        fn plain_lower_case_words_are_unchanged(text in "[b-m]{2,8}( [b-m]{2,8}){0,3}") {
            let is_plain = |word| to_digits(word) == word && restore_apostrophe(word) == word;
            prop_assume!(text.split(' ').all(is_plain));
            prop_assert_eq!(normalise_answer(&text), text);
        }
    }
}
