//! Limits of YAML files, checked before a parser builds values.
//!
//! Two features are rejected: references, by which a few lines expand to gigabytes, and deep
//! nesting, which the parser handles by recursion.

use yaml_rust2::parser::{Event, Parser};

use crate::config::error::{SettingsError, in_one_line};

/// The maximum nesting depth: sections, settings, lists.
const MAX_DEPTH: usize = 3;

/// Checks the events of a text, in constant memory. `path` is for messages.
pub(crate) fn check(path: &str, text: &str) -> Result<(), SettingsError> {
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
            Event::Alias(_) => return malformed(mark.line(), "references (*name) not allowed".to_owned()),
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            Event::Nothing
            | Event::StreamStart
            | Event::DocumentStart
            | Event::DocumentEnd
            | Event::Scalar(..) => {}
        }
        if depth > MAX_DEPTH {
            return malformed(mark.line(), format!("nesting too deep: {depth} levels, {MAX_DEPTH} allowed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        check("a.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn references_and_deep_nesting_are_rejected() {
        assert_eq!(error("a: &a [b]\nc: *a\n"), "a.yaml, line 2: references (*name) not allowed");
        let deep = error(&"- ".repeat(100_000));
        assert!(deep.contains("nesting too deep: 4 levels, 3 allowed"), "{deep}");
        // A limit of the library, within its lookahead.
        assert!(error(&"[".repeat(100_000)).contains("recursion limit"));
    }

    #[test]
    fn syntax_error_is_reported_with_its_line() {
        assert!(error("a: b\nc: d: e\n").starts_with("a.yaml, line 2: "));
    }

    #[test]
    fn settings_are_accepted() {
        assert_eq!(check("a.yaml", "fetch:\n  allow_ports: [80]\n"), Ok(()));
    }
}
