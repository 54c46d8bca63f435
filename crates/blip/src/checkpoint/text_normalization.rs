//! Text normalization of the original repository before tokenization: `pre_question` and
//! `pre_caption` of `salesforce/BLIP`, and the text processors of LAVIS.

/// Punctuation that the training texts do not have. Question mark, comma and apostrophe remain.
const DROPPED: [char; 10] = ['.', '!', '"', '(', ')', '*', '#', ':', ';', '~'];
const MAX_WORDS: usize = 50;

/// Normalizes a question: lower case, no punctuation, no blanks at the end, the first 50 words.
pub(crate) fn question(text: &str) -> String {
    let cleaned: String = text.to_lowercase().chars().filter(|letter| !DROPPED.contains(letter)).collect();
    first_words(cleaned.trim_end_matches(' '))
}

/// Normalizes a text that is compared with images. It differs from [`question`] in two points:
/// punctuation becomes a blank, and a run of white space becomes one blank.
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

/// Returns the first words of a text. Words are separated by single blanks, so two adjacent blanks
/// have an empty word between them.
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
    fn question_has_lower_case_and_no_dropped_punctuation() {
        assert_eq!(question("What's (really) there: a Dog, or #2?  "), "what's really there a dog, or 2?");
        assert_eq!(question("...!"), "");
    }

    #[test]
    fn caption_has_single_blanks_instead_of_punctuation() {
        assert_eq!(caption("  A man.A plan\t\na *Canal*!\n"), "a man a plan a canal");
        assert_eq!(caption("one\ttwo"), "one\ttwo");
    }

    #[test]
    fn text_is_cut_after_fifty_words_including_empty_ones() {
        let words = |count: usize| vec!["w"; count].join(" ");
        assert_eq!(question(&words(50)), words(50));
        assert_eq!(question(&words(51)), words(50));
        assert_eq!(question(&format!("w  {}", words(50))), format!("w  {}", words(48)));
    }
}
