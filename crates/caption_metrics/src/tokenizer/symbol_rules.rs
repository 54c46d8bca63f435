//! Markup, links, emoticons, punctuation and other symbols.

use crate::tokenizer::{
    patterns::{SPACE, letter, letter_or_digit, no_letter_or_digit, tag},
    rule::{Form, Rule},
};

/// Endings of file names.
const FILE_TYPES: &str = "3gp|avi|bat|bmp|cgi|cpp|css|c|dll|docx?|exe|gif|gz|html?|jar|java|jpe?g|mov|mp3|pdf|\
                          php|pl|png|pps|ppt|ps|py|rtf|sql|swf|tar|tiff?|txt|wav|wm[va]|xls|xml|x|zip";

/// Symbols that are a token each, outside ASCII.
const SYMBOLS: &str = concat!(
    r"\x{A1}\x{A5}-\x{A9}\x{AC}\x{AE}-\x{B4}\x{B6}-\x{B9}\x{BF}\x{D7}\x{F7}\x{37E}\x{387}\x{589}",
    r"\x{5BE}\x{5C0}\x{5C3}\x{5C6}\x{5F3}\x{5F4}\x{600}-\x{603}\x{606}-\x{60C}\x{614}\x{61B}",
    r"\x{61E}\x{61F}\x{66A}\x{66D}\x{6D4}\x{700}-\x{70D}\x{7F6}-\x{7F8}\x{964}\x{965}\x{E3F}",
    r"\x{E4F}\x{1FBD}\x{2016}\x{2017}\x{201A}\x{201E}-\x{2023}\x{2030}-\x{2038}\x{203B}",
    r"\x{203E}-\x{2042}\x{2044}\x{2070}\x{2074}-\x{207E}\x{2080}-\x{208E}\x{20A4}",
    r"\x{2100}\x{2101}\x{2103}-\x{2106}\x{2108}\x{2109}\x{2114}\x{2116}-\x{2118}",
    r"\x{211E}-\x{2123}\x{2125}\x{2127}\x{2129}\x{212E}\x{213A}\x{213B}\x{2140}-\x{2144}",
    r"\x{214A}-\x{214D}\x{214F}\x{2155}-\x{215E}\x{2190}-\x{2BFF}\x{3001}\x{3002}\x{3012}",
    r"\x{30FB}\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}\x{FF5B}-\x{FF65}\x{FFE0}",
    r"\x{FFE1}\x{FFE5}\x{FFE6}",
);

/// Tags and entities.
pub(crate) fn markup_rules() -> Vec<Rule> {
    vec![
        Rule::new(tag()).form(Form::Joined),
        Rule::new("(?i:&(?:md|mdash|ndash);)").form(Form::Removed),
        Rule::new("(?i:&amp;)").form(Form::Fixed("&")),
        Rule::new("(?i:&lt;)").form(Form::Fixed("<")),
        Rule::new("(?i:&gt;)").form(Form::Fixed(">")),
        Rule::new("(?i:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);)"),
    ]
}

/// Links, emoticons, punctuation and white space.
pub(crate) fn symbol_rules() -> Vec<Rule> {
    let mut rules = link_rules();
    rules.extend(emoticon_rules());
    rules.extend([
        Rule::new(r"-(?i:[lr][rsc]b)-"),
        Rule::new(r"\(").form(Form::Fixed("-lrb-")),
        Rule::new(r"\)").form(Form::Fixed("-rrb-")),
        Rule::new(r"\[").form(Form::Fixed("-lsb-")),
        Rule::new(r"\]").form(Form::Fixed("-rsb-")),
        Rule::new(r"\{").form(Form::Fixed("-lcb-")),
        Rule::new(r"\}").form(Form::Fixed("-rcb-")),
        // Quotes.
        Rule::new("''?|\"|&quot;|(?i:&apos;)").form(Form::Removed),
        // Two of these are one token, which remains if they differ.
        Rule::new(r"[`\x{91}-\x{94}‘’‛“”«»‹›]{1,2}").form(Form::Quotes),
        Rule::new("(?i:&quot;)"),
        // Dashes. Five and more hyphens are a token.
        Rule::new(r"-{1,4}|[\x{96}\x{97}\x{2013}-\x{2015}]").form(Form::Removed),
        Rule::new("-{5,}"),
        // The longest match matters: what follows an ellipsis is no decimal fraction.
        Rule::new(r"\.{3}|\.(?: \.){2}|…|\.|[,:;]").form(Form::Removed),
        Rule::new("[!?]+"),
        Rule::new(r"\\\*|\*+|@+|#+|_+|<<|>>"),
        Rule::new(format!(r"[%&*+/<=>\\^_@|~{SYMBOLS}]")),
        Rule::new(format!("{SPACE}+|(?i:&nbsp;)")).form(Form::Removed),
    ]);
    rules
}

/// URLs, mail addresses, names on Twitter, file names.
fn link_rules() -> Vec<Rule> {
    let (letter, character) = (letter(), letter_or_digit());
    // Beginnings of character classes.
    let no_delimiter = r#"[^ \t\n\f\r"<>|()\x{A0}"#;
    let host = concat!(
        r#"(?:www\.(?:[^ \t\n\f\r\x{A0}"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"#,
        r#"|(?:[^ \t\n\f\r\x{A0}"`'<>|.!?(){},-_$]+\.)+(?:com|net|org|edu))"#,
    );
    vec![
        Rule::new(format!("(?i:https?)://{no_delimiter}]+{no_delimiter}.!?{{}},-]")),
        Rule::new(format!("{host}(?:/{no_delimiter}]+{no_delimiter}.!?{{}},-])?")),
        Rule::new(format!(
            "(?:(?i:&lt;)|<)?[a-zA-Z0-9]{no_delimiter}{{}}]*@(?:{no_delimiter}.{{}}]+\\.)*\
             {no_delimiter}.{{}}]+(?:(?i:&gt;)|>)?"
        )),
        Rule::new("@[A-Za-z_][A-Za-z_0-9]*"),
        Rule::new(format!("#{letter}+")),
        Rule::new(format!(r"{character}+(?:\.{character}+)*\.(?:{FILE_TYPES})")).before(no_letter_or_digit()),
    ]
}

fn emoticon_rules() -> Vec<Rule> {
    vec![
        Rule::new(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]").before(r"(?:[^A-Za-z0-9]|\z)").form(Form::Joined),
        Rule::new("[-^x=~<>']_[-^x=~<>']"),
        Rule::new(r"\([-^x=~<>'][_.]?[-^x=~<>']\)|\(['<>=^x~]-['`<>=^x~-]\)").form(Form::Joined),
    ]
}
