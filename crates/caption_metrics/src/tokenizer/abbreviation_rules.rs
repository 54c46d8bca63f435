//! Abbreviations and initials, which have a period.

use crate::tokenizer::{
    patterns::{INITIALS, WHITE_SPACE, tag},
    rule::Rule,
};

/// Abbreviations that stand before a name or another word.
const TITLES: &str = "adj|adm|adv|alex|assoc|asst|attys?|ave|brig|capt|cf|cie|cmdr|col|comdr|cpl|dept|det|\
                      drs?|elec|ens|ft|gen|govs?|hon|insp|jos|lieut|lt|maj|messrs|mfg|mlle|mme|mrs?|ms|msgr|\
                      mt|mtg|natl|pfc|ph|pres|profs?|pvt|reps?|rev|sens?|sfc|sgt|spc|ste?|supt|treas|vs|wm";

/// Abbreviations that can end a sentence.
const SENTENCE_ENDS: &str = "ala?|apr|ariz|assn|aug|bancorp|bhd|bldg|blvd|bros|calif|colo|conn|corp|cos?|ct|\
                             dak|dec|esq|est|etc|ext|feb|fla|fri|ga|inc|ind|intl|jan|jr|jul|jun|kans?|ky|ltd|\
                             mar|md|mich|minn|mo|mont?|neb|nev|nov|oct|okla|penn|plc|pte|pty|rd|rt|sept?|seq|\
                             sq|sr|sys|tel|tenn|thu|thurs|tues?|univ|va|vt|wed|wis|wisc|wyo|ph\\.d";

/// Abbreviations that end a sentence, and are other words in lower case.
const CAPITALIZED: [&str; 11] = ["Ark", "Az", "Del", "Ill", "La", "Mass", "Miss", "Ore", "Pa", "Tex", "Wash"];

/// Abbreviations before a number.
const BEFORE_NUMBERS: &str = "art|ca|figs?|nos?|op|pp|prop";

/// Words that begin a sentence. An initial before one of them ends a sentence.
const SENTENCE_BEGINNINGS: &str = "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More \
     Now Once One Other Our She Since So Some Such That The Their Then There These They This We What When \
     While Yet You";

/// Returns an expression for a word whose first letter is a capital.
fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
    format!("{first}(?i:{rest})")
}

/// Abbreviations that count before a word of the same length.
pub(crate) fn ambiguous_rules() -> Vec<Rule> {
    let names = CAPITALIZED.map(capitalized).join("|");
    vec![Rule::new(format!(r"(?:(?i:{SENTENCE_ENDS})|{names})\.")).before(r"(?s:.|\z)")]
}

/// Other abbreviations.
pub(crate) fn plain_rules() -> Vec<Rule> {
    let beginnings: Vec<String> = SENTENCE_BEGINNINGS.split(' ').map(capitalized).collect();
    let beginnings = beginnings.join("|");
    let tag = tag();
    vec![
        Rule::new("[A-Za-z]").before(format!(
            r"\.{WHITE_SPACE}+(?:{tag}{WHITE_SPACE}+)?(?:(?:{beginnings}){WHITE_SPACE}|M(?i:[rs])\.)"
        )),
        Rule::new(format!(r"(?:{INITIALS}|(?i:{TITLES})\.)(?:-(?:[A-Za-z0-9]+|{INITIALS}))*")),
        Rule::new(format!(r"(?i:{BEFORE_NUMBERS})\.")).before(format!("{WHITE_SPACE}*[0-9]")),
    ]
}
