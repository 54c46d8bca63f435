//! Finds the longest match of all rules. Of equally long matches, that of the first rule counts.

use regex_automata::{
    Anchored, Input, MatchKind,
    hybrid::dfa::{Cache, DFA},
    meta::Regex,
};

use crate::tokenizer::{
    abbreviation_rules,
    error::TokenizerError,
    number_rules,
    rule::{Form, Rule},
    symbol_rules, word_rules,
};

/// The compiled rules.
#[derive(Debug)]
pub(crate) struct Lexer {
    automaton: DFA,
    cache: Cache,
    rules: Vec<CompiledRule>,
}

#[derive(Debug)]
struct CompiledRule {
    form: Form,
    /// For a rule with a tail: expressions that find where the token ends.
    split: Option<(Regex, Regex)>,
}

impl Lexer {
    pub(crate) fn new() -> Result<Self, TokenizerError> {
        let mut rules = word_rules::contraction_rules();
        rules.extend(symbol_rules::markup_rules());
        rules.extend(abbreviation_rules::ambiguous_rules());
        rules.extend(word_rules::word_rules());
        rules.extend(number_rules::number_rules());
        rules.extend(abbreviation_rules::plain_rules());
        rules.extend(symbol_rules::symbol_rules());
        let patterns: Vec<String> = rules.iter().map(Rule::pattern).collect();
        let automaton = DFA::builder()
            .configure(DFA::config().match_kind(MatchKind::All).skip_cache_capacity_check(true))
            .build_many(&patterns)
            .map_err(|error| TokenizerError(error.to_string()))?;
        let cache = automaton.create_cache();
        let rules = rules.iter().map(CompiledRule::new).collect::<Result<_, _>>()?;
        Ok(Self { automaton, cache, rules })
    }

    /// Returns the length of the match at the beginning of `text`, and its token if it has one.
    pub(crate) fn next_token(
        &mut self,
        text: &str,
    ) -> Result<Option<(usize, Option<String>)>, TokenizerError> {
        let input = Input::new(text).anchored(Anchored::Yes);
        let found = self
            .automaton
            .try_search_fwd(&mut self.cache, &input)
            .map_err(|error| TokenizerError(error.to_string()))?;
        let Some(found) = found else { return Ok(None) };
        let Some(rule) = self.rules.get(found.pattern().as_usize()) else { return Ok(None) };
        let length = rule.token_length(text, found.offset());
        let token = text.get(..length).unwrap_or_default();
        let token = match rule.form {
            Form::Text => Some(token.to_owned()),
            Form::Joined => Some(token.replace(' ', "\u{a0}").replace('(', "-lrb-").replace(')', "-rrb-")),
            Form::Plain => {
                let token = token.replace(['\u{92}', '\u{2019}'], "'");
                Some(token.replace("&apos;", "'").replace("&amp;", "&"))
            }
            Form::Quotes => Some(token.chars().map(straight_quote).collect()),
            Form::Fixed(token) => Some(token.to_owned()),
            Form::Removed => None,
        };
        Ok((length > 0).then_some((length, token)))
    }
}

impl CompiledRule {
    fn new(rule: &Rule) -> Result<Self, TokenizerError> {
        let compile = |pattern: &str| Regex::new(pattern).map_err(|error| TokenizerError(error.to_string()));
        let split = match &rule.tail {
            Some(tail) => {
                Some((compile(&format!("^(?:{})$", rule.core))?, compile(&format!("^(?:{tail})"))?))
            }
            None => None,
        };
        Ok(Self { form: rule.form, split })
    }

    /// Returns the length of the token in a match of `end` bytes: the longest one that the tail can
    /// follow.
    fn token_length(&self, text: &str, end: usize) -> usize {
        let Some((core, tail)) = &self.split else { return end };
        let ends_token = |at: &usize| {
            text.split_at_checked(*at)
                .is_some_and(|(token, rest)| core.is_match(token) && tail.is_match(rest))
        };
        (1..=end).rev().find(ends_token).unwrap_or(end)
    }
}

fn straight_quote(quote: char) -> &'static str {
    match quote {
        '\u{92}' | '’' | '›' => "'",
        '\u{93}' | '“' | '«' => "``",
        '\u{94}' | '”' | '»' => "''",
        _ => "`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(text: &str) -> (usize, Option<String>) {
        Lexer::new().unwrap().next_token(text).unwrap().unwrap()
    }

    #[test]
    fn longest_match_counts_and_then_the_first_rule() {
        assert_eq!(next("t-shirt, x"), (7, Some("t-shirt".to_owned())));
        // The word is as long as the contraction with what follows it.
        assert_eq!(next("cannoté x"), (8, Some("cannoté".to_owned())));
        assert_eq!(next("cannot x"), (3, Some("can".to_owned())));
    }

    #[test]
    fn tail_is_not_part_of_the_token() {
        assert_eq!(next("don't x"), (2, Some("do".to_owned())));
        assert_eq!(next("no. 5"), (3, Some("no.".to_owned())));
        assert_eq!(next("no. x"), (2, Some("no".to_owned())));
    }

    #[test]
    fn unknown_character_has_no_match() {
        assert_eq!(Lexer::new().unwrap().next_token("😀").unwrap(), None);
        assert_eq!(Lexer::new().unwrap().next_token("\n").unwrap(), None);
    }
}
