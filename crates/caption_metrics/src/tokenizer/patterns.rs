//! Regular expressions from which the rules are composed.

/// Letters: those that Unicode 6.1 knows in the basic plane, marks of many scripts, and some
/// characters entities.
const LETTERS: &str = concat!(
    r"[\p{L}&&\p{Age=6.1}&&[\x00-\x{FFFF}]]\x{AD}\x{2C2}-\x{2C5}\x{2D2}-\x{2DF}\x{2E5}-\x{2EB}",
    r"\x{2ED}\x{2EF}-\x{36F}\x{375}\x{378}\x{379}\x{384}\x{385}\x{3F6}\x{483}-\x{487}",
    r"\x{55A}-\x{55F}\x{58A}\x{591}-\x{5BD}\x{5BF}\x{5C1}\x{5C2}\x{5C4}\x{5C5}\x{5C7}",
    r"\x{615}-\x{61A}\x{64B}-\x{65E}\x{670}\x{6D6}-\x{6E4}\x{6E7}-\x{6ED}\x{6FD}\x{6FE}",
    r"\x{70F}\x{711}\x{730}-\x{74C}\x{7A6}-\x{7B0}\x{7EB}-\x{7F3}\x{900}-\x{903}\x{93C}",
    r"\x{93E}-\x{94E}\x{951}-\x{955}\x{962}\x{963}\x{981}-\x{983}\x{9BC}\x{9BE}-\x{9C4}",
    r"\x{9C7}\x{9C8}\x{9CB}-\x{9CD}\x{9D7}\x{9E2}\x{9E3}\x{A01}-\x{A03}\x{A3C}\x{A3E}-\x{A4F}",
    r"\x{A81}-\x{A83}\x{ABC}\x{ABE}-\x{ACF}\x{B82}\x{BBE}-\x{BC2}\x{BC6}-\x{BC8}\x{BCA}-\x{BCD}",
    r"\x{C01}-\x{C03}\x{C3E}-\x{C56}\x{D3E}-\x{D44}\x{D46}-\x{D48}\x{E31}\x{E34}-\x{E3A}",
    r"\x{E47}-\x{E4E}\x{EB1}\x{EB4}-\x{EBC}\x{EC8}-\x{ECD}\x{1885}\x{1886}",
);

const DIGITS: &str = r"[\p{Nd}&&\p{Age=6.1}&&[\x00-\x{FFFF}]]";

/// Entities of letters.
const LETTER_ENTITY: &str = "&[aeiouAEIOU](?i:acute|grave|uml);";

/// White space within a line.
pub(crate) const SPACE: &str = r"[ \t\x{A0}\x{2000}-\x{200A}\x{3000}]";

/// White space, line ends included.
pub(crate) const WHITE_SPACE: &str = r"[ \t\n\x{A0}\x{2000}-\x{200A}\x{3000}]";

/// An apostrophe.
pub(crate) const APOSTROPHE: &str = r"(?:['\x{92}\x{2019}]|(?i:&apos;))";

/// No letter of ASCII, or the end of the text.
pub(crate) const NO_ASCII_LETTER: &str = r"(?:[^A-Za-z]|\z)";

/// Letters with periods.
pub(crate) const INITIALS: &str = r"[A-Za-z](?:\.[A-Za-z])*\.|[Pp][Hh]\.[Dd]\.";

/// A letter.
pub(crate) fn letter() -> String {
    format!("(?:[{LETTERS}]|{LETTER_ENTITY})")
}

/// A digit.
pub(crate) fn digit() -> String {
    format!("[{DIGITS}]")
}

/// A letter or a digit.
pub(crate) fn letter_or_digit() -> String {
    format!("(?:[{LETTERS}{DIGITS}]|{LETTER_ENTITY})")
}

/// Neither a letter nor a digit, or the end of the text.
pub(crate) fn no_letter_or_digit() -> String {
    format!(r"(?:[^{LETTERS}{DIGITS}]|\z)")
}

/// A word, with marks such as periods between letters.
pub(crate) fn word() -> String {
    let (letter, character) = (letter(), letter_or_digit());
    format!("{letter}{character}*(?:[.!?]{letter}{character}*)*")
}

/// Words and numbers with hyphens or underscores between them. Each may begin as `d'` and `O'` do.
pub(crate) fn hyphenated() -> String {
    let character = letter_or_digit();
    let part = format!("(?:[dDoOlL]{APOSTROPHE}{character})?{character}+");
    format!(r"{part}(?:[-_\x{{2010}}\x{{2011}}]{part})*")
}

/// A tag of markup.
pub(crate) fn tag() -> String {
    let name = "[A-Za-z][A-Za-z0-9:.-]*";
    let quoted = r#"['"][^\r\n'"]*['"]"#;
    let attribute = format!("(?:{name}|{name} *= *{quoted}|{quoted}| */)");
    format!(r"<(?:[!?][A-Za-z-][^>\r\n]*|{name}(?: +{attribute})* */?|/{name}) *>")
}

/// The end of a contraction: `'s`, `'m`, `'d`, `'re`, `'ve`, `'ll`.
pub(crate) fn short_verb() -> String {
    format!("{APOSTROPHE}(?i:[msd]|re|ve|ll)")
}

/// The end of a negation: `n't`.
pub(crate) fn short_not() -> String {
    format!("[nN](?:{APOSTROPHE}|`)[tT]")
}
