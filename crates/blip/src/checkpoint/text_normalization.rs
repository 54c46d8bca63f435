//! What the original does to texts before it tokenises them (`pre_question` and `pre_caption` of `salesforce/BLIP`,
//! the text processors of LAVIS).

/// Punctuation that training never saw; question mark, comma and apostrophe stay.
const DROPPED: [char; 10] = ['.', '!', '"', '(', ')', '*', '#', ':', ';', '~'];
const MAX_WORDS: usize = 50;

/// A question: lower case, punctuation deleted, blanks at its end gone, its first 50 words.
pub(crate) fn question(text: &str) -> String {
    let cleaned: String = text.to_lowercase().chars().filter(|letter| !DROPPED.contains(letter)).collect();
    first_words(cleaned.trim_end_matches(' '))
}

/// A text that is compared with images: as a question, but punctuation becomes a blank, and runs of white space become
/// one.
pub(crate) fn caption(text: &str) -> String {
    let blanked = text.to_lowercase().replace(DROPPED, " ");
    let mut cleaned = String::with_capacity(blanked.len());
    let mut letters = blanked.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_whitespace() && letters.peek().is_some_and(|next| next.is_whitespace()) {
            while letters.next_if(|next| next.is_whitespace()).is_some() {}
            cleaned.push(' ');
        } else {
            cleaned.push(letter);
        }
    }
    first_words(cleaned.trim_end_matches('\n').trim_matches(' '))
}

/// Words are what lies between blanks, nothing included: two blanks side by side have an empty word between them.
fn first_words(text: &str) -> String {
    match text.match_indices(' ').nth(MAX_WORDS - 1) {
        Some((end, _)) => text.get(..end).unwrap_or(text).to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_loses_its_case_and_the_punctuation_that_training_never_saw() {
        assert_eq!(question("What's (really) there: a Dog, or #2?  "), "what's really there a dog, or 2?");
        assert_eq!(question("...!"), "");
    }

    #[test]
    fn a_caption_has_blanks_where_punctuation_was_and_never_two() {
        assert_eq!(caption("  A man.A plan\t\na *Canal*!\n"), "a man a plan a canal");
        assert_eq!(caption("one\ttwo"), "one\ttwo");
    }

    #[test]
    fn fifty_words_are_kept_and_an_empty_one_counts() {
        let words = |count: usize| vec!["w"; count].join(" ");
        assert_eq!(question(&words(50)), words(50));
        assert_eq!(question(&words(51)), words(50));
        assert_eq!(question(&format!("w  {}", words(50))), format!("w  {}", words(48)));
    }
}
