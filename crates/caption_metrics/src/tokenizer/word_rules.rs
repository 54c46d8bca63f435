//! Words, contractions, and words with apostrophes.

use crate::tokenizer::{
    patterns::{
        APOSTROPHE, NO_ASCII_LETTER, WHITE_SPACE, hyphenated, letter, letter_or_digit, no_letter_or_digit,
        short_not, short_verb, word,
    },
    rule::{Form, Rule},
};

/// Words that are two tokens.
const TWO_TOKENS: [(&str, &str); 6] =
    [("can", "not"), ("gon", "na"), ("got", "ta"), ("lem", "me"), ("gim", "me"), ("wan", "na")];

/// Words with an apostrophe that are one token.
const WORDS_WITH_APOSTROPHE: [&str; 14] = [
    "ol'",
    "c'mon",
    "cont'd",
    "nor'easter",
    "li'l",
    "nat'l",
    "c'est",
    "s'mores",
    "e'er",
    "o'er",
    "ne'er",
    "ev'ry",
    "somethin'",
    "dunkin'",
];

/// Contractions that count before other words of the same length.
pub(crate) fn contraction_rules() -> Vec<Rule> {
    let end = no_letter_or_digit();
    let two_tokens = TWO_TOKENS
        .map(|(first, second)| Rule::new(format!("(?i:{first})")).before(format!("(?i:{second}){end}")));
    let mut rules = two_tokens.to_vec();
    rules.extend([
        Rule::new("(?i:more)").before(format!("'(?i:n){NO_ASCII_LETTER}")),
        Rule::new("'[tT]").before(format!("(?i:is|was){NO_ASCII_LETTER}")),
    ]);
    rules
}

/// Words, in the order of their priority.
pub(crate) fn word_rules() -> Vec<Rule> {
    let (letter, character, word, hyphenated) = (letter(), letter_or_digit(), word(), hyphenated());
    let (short_verb, short_not) = (short_verb(), short_not());
    let known = WORDS_WITH_APOSTROPHE.join("|").replace('\'', APOSTROPHE);
    vec![
        Rule::new(format!("(?i:cont{APOSTROPHE}d\\.)")),
        Rule::new(short_verb.clone()).before(NO_ASCII_LETTER).form(Form::Plain),
        // Before a comma, a word has its period.
        Rule::new(format!(r"(?:{word}|{hyphenated})\.")).before("[,:;]"),
        Rule::new(word.clone()).before(format!("{short_verb}{NO_ASCII_LETTER}")),
        Rule::new("[A-Za-z]+").before(short_not.clone()),
        Rule::new(word),
        Rule::new(format!("{character}+")),
        Rule::new(format!("{APOSTROPHE}[nN]{APOSTROPHE}?")),
        Rule::new(format!("[lLdDjJ]{APOSTROPHE}")),
        Rule::new(format!("{APOSTROPHE}(?:[eE][mM]|[2-9]0[sS]|(?i:till?|cause))")),
        Rule::new(format!("[A-HJ-XZn]{APOSTROPHE}{letter}{{2,}}")),
        Rule::new(format!("{letter}+[aeiouyAEIOUY]{APOSTROPHE}[aeiouA-Z]{letter}*")),
        Rule::new(format!("(?i:o{APOSTROPHE}o)")),
        Rule::new(format!("(?i:{known})")),
        Rule::new(short_not).before(NO_ASCII_LETTER).form(Form::Plain),
        Rule::new(format!("[yY]{APOSTROPHE}")).before(letter),
        Rule::new(format!("{APOSTROPHE}[0-9][0-9]")).before(WHITE_SPACE),
        // An opening quote.
        Rule::new("'").before(r"[A-Za-z][^ \t\n\r]").form(Form::Removed),
        Rule::new(short_verb).form(Form::Plain),
        Rule::new(hyphenated),
        Rule::new(r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z0-9]+|[A-Za-z](?:\.[A-Za-z])+\.))+"),
        Rule::new("[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"),
        Rule::new("[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+").form(Form::Plain),
        Rule::new(r"[CcFf]#|[Cc]\+\+"),
    ]
}
