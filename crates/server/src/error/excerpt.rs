//! Short quotations of texts of any length.

use std::fmt::{self, Display, Write};

/// The maximum length of a client's text, or of a library's error, in a message, in bytes.
///
/// A client must not get back more than it sent. The status of a call is sent in HTTP/2 headers,
/// which clients limit to 8 KiB.
const MAX_BYTES: usize = 200;

/// Returns `text`, or its first [`MAX_BYTES`] bytes and its length. Occupies no more memory than
/// that.
pub(crate) fn excerpt(text: impl Display) -> String {
    let mut excerpt = Excerpt::default();
    // Writing to memory does not fail.
    let _ = write!(excerpt, "{text}");
    let Excerpt { mut quoted, bytes } = excerpt;
    if quoted.len() < bytes {
        let _ = write!(quoted, "... ({bytes} bytes)");
    }
    quoted
}

/// Keeps the beginning of what is written, and counts the rest.
#[derive(Default)]
struct Excerpt {
    quoted: String,
    bytes: usize,
}

impl Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.quoted.len() == self.bytes {
            let end = text.floor_char_boundary(MAX_BYTES - self.bytes);
            self.quoted.push_str(text.get(..end).unwrap_or_default());
        }
        self.bytes += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_of_200_bytes_is_quoted_in_full() {
        assert_eq!(excerpt("x".repeat(200)), "x".repeat(200));
        assert_eq!(excerpt(""), "");
    }

    #[test]
    fn longer_text_is_cut_and_its_length_is_given() {
        assert_eq!(excerpt("x".repeat(60_000_000)), "x".repeat(200) + "... (60000000 bytes)");
    }

    #[test]
    fn text_is_cut_between_characters() {
        let quoted = excerpt(format_args!("a{}", "\u{20ac}".repeat(100)));
        assert_eq!(quoted, format!("a{}... (301 bytes)", "\u{20ac}".repeat(66)));
    }

    proptest! {
        #[test]
        fn parts_are_quoted_like_the_whole(parts in proptest::collection::vec("\\PC{0,90}", 0..8)) {
            let mut written = Excerpt::default();
            for part in &parts {
                written.write_str(part).unwrap();
            }
            let whole = parts.concat();
            prop_assert_eq!(written.bytes, whole.len());
            prop_assert!(written.quoted.len() <= MAX_BYTES && whole.starts_with(&written.quoted));
            prop_assert!(written.quoted == whole || written.quoted.len() > MAX_BYTES - 4);
        }
    }
}
