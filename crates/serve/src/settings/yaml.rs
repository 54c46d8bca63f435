//! What a YAML file may not have, looked for before its reader builds anything: references, by which a few lines become
//! gigabytes, and deep nesting, which its reader descends into by calling itself.

use yaml_rust2::parser::{Event, Parser};

use super::{SettingsError, error::in_one_line};

/// Deepest nesting: sections, settings, lists.
const MAX_DEPTH: usize = 3;

/// Walks over the events of a text, in constant memory.
pub(super) fn check(path: &str, text: &str) -> Result<(), SettingsError> {
    let malformed =
        |line: usize, cause: String| Err(SettingsError::Malformed { path: path.to_owned(), line, cause });
    let mut parser = Parser::new_from_str(text);
    let mut depth = 0_usize;
    loop {
        let (event, mark) = match parser.next_token() {
            Ok(token) => token,
            Err(error) => return malformed(error.marker().line(), in_one_line(error.info())),
        };
        match event {
            Event::StreamEnd => return Ok(()),
            Event::Alias(_) => return malformed(mark.line(), "references (*name) are not read".to_owned()),
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            Event::Nothing
            | Event::StreamStart
            | Event::DocumentStart
            | Event::DocumentEnd
            | Event::Scalar(..) => {}
        }
        if depth > MAX_DEPTH {
            let cause = format!("nested {depth} deep, settings are at most {MAX_DEPTH} deep");
            return malformed(mark.line(), cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        check("a.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn what_grows_when_it_is_read_is_refused() {
        assert_eq!(told("a: &a [b]\nc: *a\n"), "a.yaml, line 2: references (*name) are not read");
        assert!(told(&"- ".repeat(100_000)).contains("nested 4 deep"));
        // The library's own limit, for as long as it looks ahead.
        assert!(told(&"[".repeat(100_000)).contains("recursion limit"));
    }

    #[test]
    fn what_is_no_yaml_is_told_by_its_line() {
        assert!(told("a: b\nc: d: e\n").starts_with("a.yaml, line 2: "));
    }

    #[test]
    fn settings_are_let_through() {
        assert_eq!(check("a.yaml", "fetch:\n  allow_ports: [80]\n"), Ok(()));
    }
}
