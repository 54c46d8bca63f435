//! An image as a text: a URL, or the bytes of a file in base64.

use base64::{
    DecodeError, Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

use crate::request::item::ImageSource;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns the image in a text: a URL, or a file in base64.
pub(crate) fn source_of_text(text: &str) -> ImageSource {
    if is_url(text.as_bytes()) {
        return ImageSource::Remote(text.to_owned());
    }
    match decode(text) {
        Ok(bytes) => ImageSource::Inline(bytes.into()),
        Err(cause) => ImageSource::Undecodable(cause),
    }
}

/// Returns the image in bytes: a URL, or a file.
pub(crate) fn source_of_bytes(bytes: Bytes) -> ImageSource {
    match str::from_utf8(&bytes) {
        Ok(text) if is_url(&bytes) => ImageSource::Remote(text.to_owned()),
        _ => ImageSource::Inline(bytes),
    }
}

fn is_url(text: &[u8]) -> bool {
    let begins_with = |scheme: &[u8]| {
        text.trim_ascii_start().get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    [b"http://" as &[u8], b"https://", b"data:"].into_iter().any(begins_with)
}

/// Decodes base64 as programs write it: with line breaks, in the alphabet for URLs, or in a `data:`
/// URL.
///
/// # Errors
/// Why the text is no base64.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let encoded = payload(text)?;
    let first_error = match BASE64.decode(encoded) {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    let is_other = |byte: u8| byte.is_ascii_whitespace() || byte == b'-' || byte == b'_';
    if !encoded.bytes().any(is_other) {
        return Err(invalid(first_error));
    }
    let standard = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    });
    BASE64.decode(standard.collect::<Vec<_>>()).map_err(invalid)
}

/// Returns the base64 in a text, which a `data:` URL begins with its media type.
fn payload(text: &str) -> Result<&str, String> {
    let text = text.trim_ascii();
    if !text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return Ok(text);
    }
    let (media_type, payload) = text.split_once(',').ok_or("data URL without a comma")?;
    let encoding = media_type.rsplit(';').next().unwrap_or_default();
    if !encoding.trim_ascii().eq_ignore_ascii_case("base64") {
        return Err("data URL without base64".to_owned());
    }
    Ok(payload)
}

fn invalid(error: DecodeError) -> String {
    format!("invalid base64: {error}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_accepted_as_programs_write_it() {
        let file = (0..=255).cycle().take(1000).collect::<Vec<u8>>();
        let standard = base64::engine::general_purpose::STANDARD.encode(&file);
        let lines: Vec<_> =
            standard.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
        for text in [
            lines.join("\n"),
            lines.join("\r\n") + "\r\n",
            format!("data:image/png;base64,{standard}"),
            format!("DATA:image/png;name=a.png;BASE64,\n{}", lines.join("\n")),
            standard.replace('+', "-").replace('/', "_"),
            standard.trim_end_matches('=').to_owned(),
            standard,
        ] {
            assert_eq!(decode(&text).as_ref(), Ok(&file), "{text}");
        }
    }

    #[test]
    fn text_is_a_url_or_base64() {
        for url in ["https://a.example/b.png", "HTTP://a.example", " data:image/png;base64,aGVsbG8="] {
            assert_eq!(source_of_text(url), ImageSource::Remote(url.to_owned()));
        }
        assert_eq!(source_of_text("aGVsbG8="), ImageSource::Inline("hello".into()));
        assert!(matches!(source_of_text("ftp://a.example"), ImageSource::Undecodable(_)));
        assert_eq!(source_of_bytes("data:,".into()), ImageSource::Remote("data:,".to_owned()));
        assert_eq!(source_of_bytes("\u{89}PNG".into()), ImageSource::Inline("\u{89}PNG".into()));
    }

    #[test]
    fn text_that_is_no_base64_is_rejected_with_its_cause() {
        for (text, expected) in [
            ("a*", "invalid base64: Invalid symbol 42, offset 1"),
            ("YQ=\n*", "invalid base64"),
            ("\u{20ac}", "invalid base64"),
            ("data:image/png,abc", "data URL without base64"),
            ("data:image/png;base64", "data URL without a comma"),
        ] {
            let error = decode(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn white_space_anywhere_is_ignored(
            file in proptest::collection::vec(any::<u8>(), 0..100),
            spaces in proptest::collection::vec((any::<prop::sample::Index>(), "[ \t\r\n]{1,3}"), 0..5),
        ) {
            let mut text = base64::engine::general_purpose::STANDARD.encode(&file);
            for (index, space) in spaces {
                text.insert_str(index.index(text.len() + 1), &space);
            }
            prop_assert_eq!(decode(&text), Ok(file));
        }

        #[test]
        fn any_text_is_decoded_without_panic(text in "\\PC{0,50}") {
            let _ = decode(&text);
        }
    }
}
