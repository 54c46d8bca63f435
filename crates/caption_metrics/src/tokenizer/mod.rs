//! Tokenization of captions in the manner of the Penn Treebank (PTB).
//!
//! `pycocoevalcap` passes captions to `PTBTokenizer` of Stanford CoreNLP 3.4.1 with the options
//! `-preserveLines -lowerCase`, and then removes punctuation. This module returns the same tokens.
//! Its rules were found by comparing the output of that program for generated texts.
//!
//! [`tokenize`] finds the longest match of all rules at each position (`lexer`). The rules are
//! tables of regular expressions, by topic.

mod lexer;
mod word_rules;
mod abbreviation_rules;
mod number_rules;
mod symbol_rules;
mod rule;
mod patterns;
mod error;

use lexer::Lexer;

pub use error::TokenizerError;

/// Tokens that `pycocoevalcap` removes. Most have no token here in the first place.
///
/// It also lists brackets as `-LRB-`, but the tokens are in lower case. So brackets remain.
const REMOVED: [&str; 7] = ["?", "!", "'", "`", "''", "``", ""];

/// Characters at which the reference ends a line.
const LINE_ENDS: [char; 7] = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];

/// Returns the tokens of each caption in lower case, with a space between two tokens.
///
/// The end of a caption can depend on the next one, because the reference reads all captions as one
/// text: a single letter with a period before a line that begins with "The" loses its period. A
/// token that contains a space, such as a telephone number, has a no-break space in its place.
///
/// # Errors
/// A rule cannot be compiled.
pub fn tokenize<'a>(captions: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, TokenizerError> {
    let lines: Vec<String> =
        captions.into_iter().map(|caption| caption.replace(LINE_ENDS.as_slice(), " ")).collect();
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let text = lines.join("\n");
    let mut lexer = Lexer::new()?;
    let mut tokens = vec![String::new()];
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        // A character without a rule is skipped, like a line end.
        let (length, token) = lexer.next_token(rest)?.unwrap_or((first.len_utf8(), None));
        if first == '\n' {
            tokens.push(String::new());
        } else if let (Some(token), Some(line)) = (token, tokens.last_mut()) {
            // The reference removes soft hyphens from words.
            let token = token.replace('\u{ad}', "").to_lowercase();
            if !REMOVED.contains(&token.as_str()) {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(&token);
            }
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(caption: &str) -> String {
        tokenize([caption]).unwrap().remove(0)
    }

    #[test]
    fn punctuation_is_removed_and_brackets_are_named() {
        assert_eq!(tokens("A man, a plan -- (really)."), "a man a plan -lrb- really -rrb-");
        assert_eq!(tokens("\"Stop!\" said the 'sign'..."), "stop said the sign");
        assert_eq!(tokens("What?! no!!"), "what ?! no !!");
    }

    #[test]
    fn contractions_are_divided() {
        assert_eq!(tokens("It's a dog's life, don't you?"), "it 's a dog 's life do n't you");
        assert_eq!(tokens("I cannot, they’ll gonna"), "i can not they 'll gon na");
        assert_eq!(tokens("rock 'n' roll at six o'clock, y'all"), "rock 'n' roll at six o'clock y' all");
    }

    #[test]
    fn words_numbers_and_links_stay_whole() {
        assert_eq!(tokens("a t-shirt and/or 1,000.5 at 5:30pm"), "a t-shirt and/or 1,000.5 at 5:30 pm");
        assert_eq!(tokens("St. James and U.S. no. 5 dogs."), "st. james and u.s. no. 5 dogs");
        assert_eq!(tokens("see http://a.b/c?d, or x@y.org"), "see http://a.b/c?d or x@y.org");
        assert_eq!(tokens("AT&T costs $5 or 5%"), "at&t costs $ 5 or 5 %");
    }

    #[test]
    fn single_letter_before_a_sentence_loses_its_period() {
        assert_eq!(tokenize(["on Pine S.", "A cat"]).unwrap(), ["on pine s", "a cat"]);
        assert_eq!(tokenize(["on Pine S.", "two cats"]).unwrap(), ["on pine s.", "two cats"]);
    }

    #[test]
    fn line_ends_in_a_caption_are_spaces() {
        assert_eq!(tokens("a\nb\r\nc\u{2028}d"), "a b c d");
        assert_eq!(tokenize(["", "a", ""]).unwrap(), ["", "a", ""]);
        assert!(tokenize([]).unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn each_caption_has_a_line_without_capitals(captions in proptest::collection::vec("\\PC{0,24}", 0..5)) {
            let lines = tokenize(captions.iter().map(String::as_str)).unwrap();
            prop_assert_eq!(lines.len(), captions.len());
            for line in lines {
                prop_assert_eq!(&line, &line.to_lowercase());
                prop_assert!(line.is_empty() || line.split(' ').all(|token| !REMOVED.contains(&token)));
            }
        }

        #[test]
        fn plain_words_are_unchanged(words in proptest::collection::vec("[b-m]{4,9}", 1..6)) {
            let caption = words.join(" ");
            prop_assume!(!words.iter().any(|word| word == "gimme" || word == "lemme"));
            prop_assert_eq!(tokens(&caption), caption);
        }
    }
}
